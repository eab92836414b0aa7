"""The same features and the same model, fed from the same topic, in other frameworks: for `bench peers`.

They stand in the dependency group `peers` (`make peers`), and read the broker, the past and the model that
`fraud.bench.peers` has prepared.
"""
