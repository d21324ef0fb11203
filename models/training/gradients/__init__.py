"""What is trained by gradient, epoch after epoch: the designs copy, gate and faithful.

loop                          the epochs, from top to bottom
batches                       batches and their loss, with draws and without
losses, fused_loss            the three contrastive terms; their gradient in one go
optimizer, rates              AdamW with a cosine; the learning rate, by short runs
distributed                   a batch shared by several processes
resume                        a killed run goes on where its last epoch ended
"""
