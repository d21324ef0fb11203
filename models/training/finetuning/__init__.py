"""The whole encoder fine-tuned, which RECO spares its users: to compare with.

finetune                      both towers, by the contrastive loss
pictures                      captioned pictures as that loop reads them
"""
