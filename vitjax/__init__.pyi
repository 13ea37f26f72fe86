from . import attention as attention
from . import backbones as backbones
from . import classification as classification
from . import data as data
from . import detection as detection
from . import layers as layers
from . import ops as ops
from . import recipes as recipes
from . import segmentation as segmentation
from . import structs as structs
from .inference.predictor import load as load
from .runs.experiment import Experiment as Experiment
from .runs.optimizer import AdamW as AdamW
from .runs.optimizer import CosineSchedule as CosineSchedule
from .runs.optimizer import StepSchedule as StepSchedule

__version__: str
