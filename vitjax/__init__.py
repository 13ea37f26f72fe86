"""vitjax: the vision-transformer family for detection, classification and segmentation in JAX.

Names stand in `__init__.pyi`, here and in the rooms below; a name's file is imported when the name is first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # JAX is started by who uses it
