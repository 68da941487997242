"""Settings of the dialog service."""

from pydantic import Field

from services.runtime.settings import Settings


class DialogSettings(Settings):
    """`PARLEY_DIALOG_...`, besides those of every service."""

    dialog_port: int = 50052
    """gRPC port; 0 for any free one."""
    dialog_workers: int = Field(default=5, ge=0)
    """Turns that one process has in flight at most; 0 for a process that only takes messages in. The local stack sets
    128, of which one channel alone gets 86."""
    dialog_fair_tenant: float = Field(default=3.0, gt=0)
    """How many times as many of these places as are left one tenant may hold; who has none always gets one."""
    dialog_fair_share: float = Field(default=2.0, gt=0)
    """The same for one channel, of what is left for its tenant. A channel alone gets two thirds of all places."""
    dialog_fair_asking: float = Field(default=3.0, gt=0)
    """The same for all turns of bots that ask a model: quick turns always find room beside them."""
    dialog_lease_seconds: float = Field(default=20.0, gt=1)
    """How long a lease lasts; it is renewed from a third of it on. A worker that died is noticed after so long."""
    dialog_decision_seconds: float = Field(default=330.0, gt=0)
    """How long a decision may take at most, model calls and all; it has 5 s more to say what came of them."""
    dialog_turn_steps: int = Field(default=50, gt=0)
    """Calls of models and tools that one turn may make at most, and writes of its own."""
    dialog_turn_tokens: int = Field(default=500_000, gt=0)
    """Tokens that the model calls of one turn may use, of input and output together. A call that is under way is not
    stopped: the one after it is refused."""
    dialog_turn_usd: float = Field(default=5.0, gt=0)
    """US dollars that the model calls of one turn may cost, counted likewise."""
    dialog_answer_seconds: float = Field(default=60.0, gt=0)
    """How long a person waits at most while the model's endpoint is away, then gets the bot's error message. A bot may
    say otherwise, and may answer late all the same."""
    dialog_context_bytes: int = Field(default=4 * 1024 * 1024, ge=0)
    """Bytes of contexts that one process keeps of conversations under way, so that it need not ask for them with each
    message; 0 to ask always."""
    dialog_dedupe_sweep_seconds: float = Field(default=60.0, gt=0)
    """Time between two looks for dedupe keys older than a week."""

    openai_base_url: str = Field(default="https://api.openai.com/v1", validation_alias="OPENAI_BASE_URL")
    """Where models are asked: any OpenAI-compatible endpoint."""
    openai_api_key: str = Field(default="", validation_alias="OPENAI_API_KEY", repr=False)
    """The key for it."""
    dialog_model: str = "gpt-5-mini"
    """The model of bots that name none."""
