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
from .runs.experiment import Experiment as Experiment
from .runs.optimizer import AdamW as AdamW
from .runs.optimizer import CosineSchedule as CosineSchedule
from .runs.optimizer import StepSchedule as StepSchedule
from .tasks.classification import Classification as Classification
from .tasks.detection import Detection as Detection
from .tasks.load import load as load
from .tasks.masks import MaskDetection as MaskDetection
from .tasks.segmentation import Segmentation as Segmentation

__version__: str
