"""A tokenizer and a text encoder that know no language, for pipelines that cannot be given embeddings.

A text's tokens come from its letters, and their embeddings are drawn once. The encoder's output is read in any of the ways in
which pipelines read those of transformers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import nn

TOKENS, WORDS = 4, 64  # of a text; in the tokenizer's list
MOST = 70  # tokens of a text in a template


class Tokens(dict[str, Any]):
    """`input_ids` (n, TOKENS) and `attention_mask` of as many ones."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def to(self, *_: Any, **__: Any) -> Tokens:
        """These tokens."""
        return self


class Tokenizer:
    """tokens = tokenizer(text or texts)"""

    model_max_length = TOKENS
    pad_token_id, eos_token_id, bos_token_id, unk_token_id = 0, 1, 2, 3
    added_tokens_encoder: ClassVar[dict[str, int]] = {}
    pad_token, eos_token, bos_token, padding_side = "<pad>", "<eos>", "<bos>", "right"

    def __call__(
        self, text: Any = None, *_: Any, max_length: Any = None, return_tensors: Any = None, **__: Any
    ) -> Tokens:
        """The tokens of a text or of texts, as many as are asked for where those are few, as tensors where those are asked for."""
        count = max_length if isinstance(max_length, int) and TOKENS < max_length <= MOST else TOKENS
        listed = [text] if isinstance(text, str) else list(text)
        numbers = [[4 + (sum(map(ord, str(each))) + k) % (WORDS - 4) for k in range(count)] for each in listed]
        ones = [[1] * count] * len(listed)
        if return_tensors:
            return Tokens(input_ids=torch.tensor(numbers), attention_mask=torch.tensor(ones))
        if isinstance(text, str):
            return Tokens(input_ids=numbers[0], attention_mask=ones[0])
        return Tokens(input_ids=numbers, attention_mask=ones)

    def apply_chat_template(
        self, messages: Any, *_: Any, tokenize: bool = True, return_dict: bool = True, **more: Any
    ) -> Any:
        """The messages as a text, or its tokens."""
        several = isinstance(messages[0], list)
        texts = [str(each) for each in messages] if several else str(messages)
        if not tokenize:
            return texts
        tokens = self(texts, **more)
        return tokens if return_dict else self(texts if several else [texts], **more)["input_ids"]

    def pad(self, tokens: Any, max_length: int = TOKENS, **_: Any) -> Tokens:
        """Tokens of so many."""
        ids = torch.zeros(len(tokens["input_ids"]), max_length, dtype=torch.long)
        for row, each in zip(ids, tokens["input_ids"], strict=True):
            numbers = torch.tensor(each).flatten()[:max_length]
            row[: len(numbers)] = numbers
        return Tokens(input_ids=ids, attention_mask=torch.ones_like(ids))

    def encode(self, text: str, **_: Any) -> list[int]:
        """The text's tokens."""
        return list(self(text)["input_ids"])

    def decode(self, ids: Any, **_: Any) -> str:
        """Some text."""
        return "text"

    def batch_decode(self, ids: Any, **_: Any) -> list[str]:
        """Some texts."""
        return ["text"] * len(ids)

    def tokenize(self, text: str) -> list[str]:
        """The text's words."""
        return text.split()

    def convert_tokens_to_ids(self, token: Any) -> Any:
        """The number of a token."""
        return 5


class Viewed(Tokenizer):
    """A tokenizer each of whose texts begins with the token of an image's place."""

    def __call__(self, text: Any = None, *args: Any, **more: Any) -> Tokens:
        """The tokens of a text."""
        found = super().__call__(text, *args, **more)
        return Tokens(found, input_ids=[self.convert_tokens_to_ids("image"), *found["input_ids"][1:]])


class Encoded(SimpleNamespace):
    """An encoder's output, whose first entry is that of transformers."""

    def __getitem__(self, place: int | str) -> Any:
        if isinstance(place, str):
            return getattr(self, place)
        return self.first if place == 0 else self.pooler_output


class Encoder(nn.Module):
    """Embeddings of `width` of tokens. `pooled_first` for encoders whose output begins with the pooled text."""

    def __init__(self, width: int = 16, pooled_first: bool = False, layers: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.table = nn.Parameter(torch.randn(WORDS, width, generator=generator), requires_grad=False)
        self.pooled_first, self.layers = pooled_first, layers
        self.config = SimpleNamespace(
            hidden_size=width, projection_dim=width, use_attention_mask=False, num_hidden_layers=layers, eos_token_id=1,
            model_type="t5", vocab_size=WORDS, max_position_embeddings=TOKENS, text_config=SimpleNamespace(hidden_size=width),
        )  # fmt: skip
        self.text_model = SimpleNamespace(
            final_layer_norm=nn.Identity(),
            dtype=self.table.dtype,
            config=SimpleNamespace(max_position_embeddings=2 * TOKENS),
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        return self.table.dtype

    @property
    def device(self) -> torch.device:
        """Of the embeddings."""
        return self.table.device

    def get_input_embeddings(self) -> Any:
        """The embeddings of single tokens."""
        return lambda ids: self.table[ids % WORDS]

    def forward(self, input_ids: Any = None, *_: Any, **__: Any) -> Encoded:
        """The embeddings (n, tokens, width), each layer's, and their means (n, width)."""
        found = self.table[torch.as_tensor(input_ids) % WORDS]
        pooled = found.mean(1)
        return Encoded(
            first=pooled if self.pooled_first else found, last_hidden_state=found, pooler_output=pooled, text_embeds=pooled,
            hidden_states=(found,) * (self.layers + 1),
        )  # fmt: skip


class Layered(Encoder):
    """An encoder whose last layer pipelines look into."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.language_model = nn.Module()
        self.model.language_model.layers = nn.ModuleList([nn.Identity()])

    def forward(self, input_ids: Any = None, *_: Any, **__: Any) -> Encoded:
        """As any encoder, by way of its last layer."""
        found = super().forward(input_ids)
        self.model.language_model.layers[-1](found.last_hidden_state)
        return found


class Decoder(nn.Module):
    """A language model of 36 tiny layers, which pipelines call one by one."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        from transformers.models.qwen3_vl import Qwen3VLTextConfig, Qwen3VLTextModel

        torch.manual_seed(0)
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        self.language_model = Qwen3VLTextModel(
            Qwen3VLTextConfig(
                vocab_size=WORDS, hidden_size=width, intermediate_size=32, num_hidden_layers=36, num_attention_heads=2,
                num_key_value_heads=1, head_dim=8, rope_scaling=rope, rope_parameters=rope,
            )
        ).eval().requires_grad_(False)  # fmt: skip

    @property
    def device(self) -> torch.device:
        """Of its layers."""
        return self.language_model.device


class Contextual(Encoder):
    """An encoder of texts with embeddings of something else between them."""

    def forward(self, input_ids: Any = None, ctx_embeddings: Any = None, **_: Any) -> Encoded:
        """Embeddings (n, tokens + those given, width)."""
        found = super().forward(input_ids)
        if ctx_embeddings is not None:
            found.first = torch.cat([found.first[:, :2], ctx_embeddings, found.first[:, 2:]], dim=1)
        return found


class Pair(Encoder):
    """An encoder that gives the pooled text and the embeddings."""

    def forward(self, *args: Any, **more: Any) -> Any:
        """Embeddings (n, width) and (n, tokens, width)."""
        found = super().forward(*args, **more)
        return found.pooler_output, found.last_hidden_state
