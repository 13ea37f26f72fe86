"""Recurrent attention: a classifier of glimpses, which is trained by reward."""

from vitjax.classification.policy_loss import PolicyLoss
from vitjax.classification.postprocess import TopClasses
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.crops import CenterCrop
from vitjax.families.family import Family

FAMILY = Family(model=RecurrentAttention, loss=PolicyLoss, postprocess=TopClasses, resize=CenterCrop)
