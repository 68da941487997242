"""What model calls cost."""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from services.dialog.model import Price

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def load_prices(path: Path | None = None) -> Mapping[str, Price]:
    """Prices by model from a file like prices.yaml, which is the default. Raises ValueError, which names the model."""
    file = path or Path(__file__).parent / "prices.yaml"
    prices = {}
    for model, values in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).items():
        try:
            prices[str(model)] = Price(**{key: float(value) for key, value in values.items()})
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{file}: {model}: needs input, cached_input and output in dollars") from error
    return prices


def price_micros(prices: Mapping[str, Price], model: str, *, input_tokens: int, cached: int, output_tokens: int) -> int:
    """Millionths of a US dollar; `cached` of the input tokens are charged as such. 0 for a model without a price."""
    price = prices.get(model) or prices.get(_DATED.sub("", model))
    if price is None:
        return 0
    fresh = max(input_tokens - cached, 0)
    return round(fresh * price.input + cached * price.cached_input + output_tokens * price.output)
