"""What is said of a family of models, in one place; each family is a file of this room that holds one `FAMILY`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from vitjax.data.label_names import numbered
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.formats.tables import Arrays, Table, TensorFile, Variables, to_published

Tensors = Mapping[str, np.ndarray]
Notes = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Official:
    """The files of the code that a family was published with."""

    tables: tuple[Table, ...]
    """Published names; one table, or one for each variant whose names differ."""
    identify: Callable[[TensorFile, Table], tuple[Any, Notes]]
    """The model that has the tensors of a file, whose names are those of a table, and what could not be seen."""
    table_for: Callable[[Any], Table] | None = None
    """The table of a model, where there are several."""
    detector: Callable[[Tensors], tuple[Arrays, Notes]] | None = None
    """From the tensors of a model with masks those of the detector inside, and what is left behind; from those of any
    other model all."""
    copies: Callable[[Any, Tensors], Arrays] | None = None
    """What files of a model hold besides its tensors: some of them once more, under other names."""
    under: str | None = "model"
    """The key under which the official code looks for the tensors; None looks for them at the top."""

    def tensors_of(self, model: nn.Module, variables: Variables) -> Arrays:
        """The tensors of a model, each under all the names by which official files hold it.

        Raises:
            PublishedError: a variable has no official name; all of them are listed.
        """
        table = self.tables[0] if self.table_for is None else self.table_for(model)
        tensors = to_published(variables, table=table)
        return tensors if self.copies is None else {**tensors, **self.copies(model, tensors)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Everything that is said of a kind of model outside of the model itself.

    The models name their family: `family` is the name of its file. Whoever reads, writes, converts or explains models
    asks the family, and knows no model by itself.
    """

    model: type[nn.Module]
    """The class of its models."""
    loss: Callable[[], Any]
    """The class of the loss that it is trained with."""
    postprocess: Callable[[], Any]
    """The class of what turns its predictions into results."""
    resize: Callable[[], Any] = Resize
    """The class of what is done to images before its published models see them."""
    resize_of: Callable[[Any], Any] | None = None
    """What is done to them for one of its models, where these differ; None where they do not."""
    classes: Callable[[int], Classes] = numbered
    """What so many labels of a published model most likely mean."""
    official: Official | None = None
    """The files of the official code; None where nobody has published such a model."""
    huggingface: str | None = None
    """The file of this room with its `FORM` in the transformers library; None where the library has no such model."""
    detector: Callable[[Any, Variables], tuple[nn.Module, dict[str, Any]]] | None = None
    """The detector inside a model with masks, and its variables; None where a model has no masks."""
    explanation: str | None = None
    """What `vitjax explain` draws: 'attention', 'sampling', or what the backbone has to show (None)."""
