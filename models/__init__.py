"""The encoder, the fusion and the two composed. Import from the modules: torch stays lazy.

Its folders build on each other one way (tests/test_house.py), and none on what drives them:

    images/       an image's bytes to pixels
    texts/        texts to token ids, class names to prompts
    sources/      an open_clip model, opened from a name or a directory
    towers/       how its towers are computed
    fusion/       what refines a query with its neighbours
    training/     how a fusion is fitted or trained, in folders of its own
    encoder, fingerprint          the frozen encoder, and what makes two of them the same
    refine, checkpoint            encoder, memory and fusion composed; a fusion on disk
    label_captions                what labels find, where captions name them
    caption_words                 which captions of a memory hold a label's words
    checkpoint_files, designs     of a fusion, what can be read and refused before torch is loaded
    run_settings                  of its training, what can be named so
    label_set_words               why a memory gets no weight for some labels, said alike everywhere
    graphed, pinned_rows          what a GPU is asked for at once, and where it copies from
    devices, cores, places        what the machine has and allows: devices and number formats, cores, places to write to
    errors                        what is refused, and why

Of ours it imports memory only: in refine, label_captions, checkpoint and training/.
"""
