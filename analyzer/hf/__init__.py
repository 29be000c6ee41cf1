"""The only place that knows the key names of Hugging Face configurations.

In comes a parsed `config.json`; out goes a `Model`. `registry` says which family reads which
`model_type`; each family is one small file; `fields` makes missing and mistyped keys errors.
"""

from analyzer.hf.registry import from_config

__all__ = ["from_config"]
