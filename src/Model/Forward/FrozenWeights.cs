// A checkpoint's weights as ONNX Runtime's CPU kernels take them: f32. Mapped where the file has f32, else widened once, when first asked for.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Forward;

/// <summary>f32 views of a checkpoint's parameters.</summary>
internal sealed class FrozenWeights(CpuDevice device, Checkpoint checkpoint, Action<string>? expand) : IGraphWeights, IDisposable
{
    private readonly Dictionary<string, Tensor> _tensors = [];
    private readonly List<DeviceBuffer> _expanded = [];
    private bool _told;

    /// <summary>Bytes of the f32 copies made of narrower (or misaligned) weights.</summary>
    public long ExpandedBytes { get; private set; }

    /// <summary>A parameter in its stored type.</summary>
    public Tensor Stored(string name)
    {
        Weight weight = checkpoint[name];
        return new Tensor(device, weight.Address, weight.DType, weight.Shape.Elements) { Scales = weight.Scales };
    }

    public Tensor Shared => Stored(T5Parameters.Shared);

    public OnnxType TypeOf(string name) => OnnxType.Float;

    public Tensor Bound(string name) => Float(name);

    /// <summary>A parameter as f32.</summary>
    public Tensor Float(string name)
    {
        if (_tensors.TryGetValue(name, out Tensor tensor))
            return tensor;
        tensor = Stored(name);
        if (tensor.Scales.IsPresent)
        {
            // Once, and before the first copy is made.
            if (expand is null)
                throw new InvalidDataException($"{checkpoint.Location}: running ONNX Runtime; '{name}' is {WeightFormats.Name(tensor.DType)}, its CPU kernels take f32. Choose --forward native, which reads the codes as they are, or export the checkpoint with --dtype f32 or bf16.");
            if (!_told)
                expand($"ONNX Runtime's CPU kernels take f32 weights: those of {checkpoint.Location} are expanded as they are needed, up to {4 * T5Parameters.Of(checkpoint.Config).Sum(p => p.Shape.Elements) / 1_000_000} MB.");
            _told = true;
        }
        // A file may put a tensor at any byte; a float that straddles its alignment is undefined for native code.
        if (tensor.DType != DType.F32 || tensor.Address % sizeof(float) != 0)
        {
            DeviceBuffer buffer = device.Allocate(DType.F32, tensor.Elements, $"f32 copy of '{name}'");
            _expanded.Add(buffer);
            if (tensor.Scales.IsPresent)
                Dequantisation.Forward(device, tensor, buffer.Tensor);
            else
                Conversion.ToF32(device, tensor, buffer.Tensor, tensor.Elements);
            ExpandedBytes += DType.F32.ByteLength(tensor.Elements);
            tensor = buffer.Tensor;
        }
        _tensors.Add(name, tensor);
        return tensor;
    }

    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _expanded)
            buffer.Dispose();
        _expanded.Clear();
        _tensors.Clear();
    }
}
