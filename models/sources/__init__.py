"""Where the model of an encoder comes from: a name of open_clip's, or a directory, which a training may have written.

config, weights           what is read of it, and what is refused: paths that lead out of it, pickles
opening                   a name or a directory to a model with its tokenizer and preprocessing
saving                    a trained model to a directory that opens again
"""
