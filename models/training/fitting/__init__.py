"""What is fitted at once, without a learning rate: the design evidence.

evidence                      whitening and what is held, from statistics of the pairs
stand_alone, trials           the weight of queries that stand alone, and what it is tried on
"""
