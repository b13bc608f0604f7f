"""How an engine knows that memory did not suffice."""

import os

import torch

# What oneDNN says where it gets no memory for its code, which it then goes on saying.
SPENT = ("could not create a primitive", "could not execute a primitive")
# And what the allocators of the CPU and of Metal say.
SHORT = ("can't allocate memory", "out of memory", *SPENT)


def short_of_memory(error: BaseException) -> bool:
    """CUDA has an error of its own for it; others have but words."""
    told = any(words in str(error).lower() for words in SHORT)
    return told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def total_memory(device: str) -> float:
    """The bytes that a device has."""
    if device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
