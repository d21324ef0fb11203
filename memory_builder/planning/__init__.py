"""What is settled before a row is encoded: what is to be done with which sources, and whether it can be done.

task                    the sources, and what makes rows of them
plan, scan              which units there are and what each is called; the sources read through for it
previous                the version that grows, and what of it is alive
sharing                 which units are one worker's, where many work without an engine
first_look              whether the first rows can be stored, before an encoder is opened
output, forecast        whether there is a place for the memory; what the build would take
"""
