"""Which flow decides, and what a call costs."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.dialog.domain.bots import AssistantSettings, Bot, FormSettings
from services.dialog.flows.assistant import AssistantFlow
from services.dialog.flows.form import FormFlow
from services.dialog.flows.registry import check_flow, make_flows
from services.dialog.model.prices import load_prices, price_micros
from services.kernel.errors import ParleyError
from tests.unit.dialog.test_assistant_flow import FakeModel

BOT = Bot("demo", "water", FormSettings("water-order"))


def test_each_kind_of_settings_has_its_flow() -> None:
    flow_for = make_flows(FakeModel())
    assert isinstance(flow_for(BOT), FormFlow)
    assert isinstance(flow_for(replace(BOT, bot_id="a", flow=AssistantSettings("Hi"))), AssistantFlow)


def test_a_flow_is_made_once_until_the_bots_flow_changes() -> None:
    flow_for = make_flows(FakeModel())
    first = flow_for(BOT)
    assert flow_for(replace(BOT, revision=2, help_message="x")) is first
    assert flow_for(replace(BOT, locale="ru")) is not first
    again = flow_for(replace(BOT, flow=AssistantSettings("Hi")))
    assert isinstance(again, AssistantFlow)
    assert flow_for(replace(BOT, tenant_id="other")) is not first


def test_a_bots_flow_is_dropped_when_others_are_used() -> None:
    flow_for = make_flows(FakeModel(), kept=2)
    first = flow_for(BOT)
    for number in range(2):
        flow_for(replace(BOT, bot_id=f"b{number}"))
    assert flow_for(BOT) is not first


@pytest.mark.parametrize(
    ("settings", "reason"),
    [(FormSettings("nope"), "FORM_NOT_FOUND"), (FormSettings(definition_yaml="form_id: x"), "INVALID_FORM")],
)
def test_a_form_that_cannot_be_loaded_is_told_when_the_bot_is_stored(settings: FormSettings, reason: str) -> None:
    with pytest.raises(ParleyError) as caught:
        check_flow(settings)
    assert caught.value.reason == reason


def test_good_settings_pass() -> None:
    check_flow(FormSettings("water-order"))
    check_flow(AssistantSettings("Hi"))


def test_price_counts_cached_tokens_apart() -> None:
    prices = load_prices()
    price = price_micros(prices, "gpt-5-mini", input_tokens=1000, cached=400, output_tokens=100)
    assert price == round(600 * 0.25 + 400 * 0.025 + 100 * 2)


def test_dated_names_have_the_price_of_their_model_and_unknown_ones_none() -> None:
    prices = load_prices()
    for model, expected in (("gpt-5-2025-08-07", 11250), ("scripted", 0), ("gpt-5-other", 0)):
        assert price_micros(prices, model, input_tokens=1000, cached=0, output_tokens=1000) == expected


def test_a_price_file_of_ones_own_is_read_and_its_errors_name_the_model(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("llama: {input: 1, cached_input: 1, output: 2}")
    assert load_prices(path)["llama"].output == 2
    path.write_text("llama: {input: cheap, cached_input: 1, output: 2}")
    with pytest.raises(ValueError, match="llama"):
        load_prices(path)
