"""A GPU made of the processor: tensors on it are marked, and mixing devices is an error.

Real kernels on real data, so results are the processor's; what is checked is that everything that
meets is on one device, as CUDA demands, and for MPS that nothing is float64: the mistakes that
show only on a GPU.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
MIXING = {"copy_", "to", "type_as", "__get__", "__set__", "_has_compatible_shallow_copy_type"}
"""Functions whose arguments may lie on several devices."""
INDEXING = {"__getitem__", "__setitem__", "index_put_", "index_put"}
"""Functions whose indices may lie on the processor."""
HOST_ONLY = {"numpy", "__array__", "from_numpy"}


class FakeGpu(TorchFunctionMode):
    """While it is active, `.to("cuda")` (or "mps") marks a copy, and `.device` tells."""

    def __init__(self, kind="cuda"):
        super().__init__()
        self.device = torch.device(kind)
        self.marked = {}  # address -> storage, held so that no address is given twice

    def on_gpu(self, tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.marked

    def mark(self, tensor):
        assert self.device.type != "mps" or tensor.dtype is not torch.float64, "float64 on MPS"
        storage = tensor.untyped_storage()
        if storage.size():
            self.marked[storage.data_ptr()] = storage

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        owner = getattr(getattr(function, "__self__", None), "__name__", "")
        if name == "__get__" and owner in ("device", "is_cuda") and self.on_gpu(args[0]):
            return self.device if owner == "device" else self.device.type == "cuda"
        if name in ("to", "cpu", "cuda") and isinstance(args[0], torch.Tensor):
            return self._moved(name, *args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        wanted = kwargs.get("device")
        wanted = torch.device(wanted) if wanted is not None else None
        if wanted is not None and wanted.type == self.device.type:
            kwargs["device"] = CPU
            generator = kwargs.get("generator")
            assert generator is None or generator.device.type == wanted.type, f"{name}: generator"
        found = [self.on_gpu(each) for each in tensors]
        self._check(name, tensors, found, args)
        result = function(*args, **kwargs)
        here = any(found) if wanted is None else wanted.type == self.device.type
        here = self.on_gpu(args[0]) if name in INDEXING else here
        if name == "__get__" and owner == "grad":  # made by the engine, out of sight
            here = any(found)
        elif name == "__get__" and owner != "data":
            here = False
        if here:
            for each in tree_leaves(result):
                if isinstance(each, torch.Tensor):
                    self.mark(each)
        return result

    def _check(self, name, tensors, found, args):
        assert not (name in HOST_ONLY and any(found)), f"{name} of a tensor on the GPU"
        if name in MIXING or not any(found):
            return
        if name in INDEXING:
            first = self.on_gpu(args[0])
            values = args[2:] if "set" in name or "put" in name else ()
            tensors = [x for x in tree_leaves(values) if isinstance(x, torch.Tensor)]
            found = [self.on_gpu(each) for each in tensors]
            assert first or not any(found), f"{name}: a value on the GPU into a tensor that is not"
            indices = [x for x in tree_leaves(args[1]) if isinstance(x, torch.Tensor)]
            wrong = [x for x in indices if self.on_gpu(x) and x.dim() and not first]
            assert not wrong, f"{name}: an index on the GPU into a tensor that is not"
            if not first:
                return
            tensors, found = [args[0], *tensors], [first, *found]
        wrong = [x for x, here in zip(tensors, found, strict=True) if not here and x.dim()]
        assert not wrong, f"{name}: a tensor {tuple(wrong[0].shape)} on the processor meets the GPU"

    def _moved(self, name, tensor, *args, **kwargs):
        target, changes = {"cpu": CPU, "cuda": self.device}.get(name), {}
        if args and isinstance(args[0], torch.Tensor):
            target = self.device if self.on_gpu(args[0]) else CPU
            changes = {"dtype": args[0].dtype}
        elif name == "to":
            target, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
            changes = {"dtype": dtype, "memory_format": memory_format}
        changes = {change: value for change, value in changes.items() if value is not None}
        result = tensor.to(**changes) if changes else tensor
        here = self.on_gpu(tensor)
        goes = here if target is None else target.type == self.device.type
        if goes != here and result.data_ptr() == tensor.data_ptr():
            result = result.clone()
        if goes:
            self.mark(result)
        return result
