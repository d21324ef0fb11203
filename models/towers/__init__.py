"""How CLIP's towers are computed: open_clip's weights, quicker, held to open_clip's own features.

packed_block, packed_towers   on a CPU: quick products, no padding, the last block for one token
products                      of these: a linear layer by oneDNN or MKL, whichever is quicker on the CPU
text_blocks                   of a text tower: all blocks in one compiled call
int8_block, int8_tower        on a CPU, if asked for: the image tower in 8 bits, fitted on pictures and tried on others
cut_text                      where nothing is packed, as on an accelerator: texts cut to the longest of the batch

torch and open_clip's classes. Which tower takes which form, the encoder decides.
"""
