"""What a fusion learns from: pairs of a memory, what each of them may retrieve, and what a batch sees of that.

pairs, entity_pairs           single pairs with their candidates; pairs grouped by entity, with the queries of use
entities, groups, matching    who shows the same thing, shares a caption or an image, has an equal number
exclusion                     what a pair must not retrieve
candidates, candidate_store   what it may: searched once, kept beside the memory
embedding_rows                embeddings by row, in memory or mapped
draws                         what is random about a batch
split                         which pairs train and which validate
"""
