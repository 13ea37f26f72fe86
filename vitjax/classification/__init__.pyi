from .classifier import Classifier as Classifier
from .erasing import Erasing as Erasing
from .loss import CrossEntropy as CrossEntropy
from .mixing import Mixing as Mixing
from .policy_loss import PolicyLoss as PolicyLoss
from .postprocess import TopClasses as TopClasses
from .recurrent_attention import RecurrentAttention as RecurrentAttention
