"""What really happens: measuring kernels, links, layers and whole generations on a torch device.

In:  a profile's name and options (`campaign.run`), or one callable (`measure.measure`).
Out: records in an append-only store (`store.Store`): samples, quality, environment, provenance.
The measuring kernel, the store and the campaign know nothing of torch: clock, device and watch are
handed in, so every branch is tested on a fake. torch and transformers are imported only by the
modules that a worker process loads. Nothing here imports `calibration`: the two meet in records.
"""
