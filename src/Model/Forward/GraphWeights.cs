// What the graphs' weight inputs are bound to: float32 on the CPU, whose kernels take nothing else (FrozenWeights), the stored bytes on a device.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Graph;

namespace IptNative.Model.Forward;

/// <summary>A checkpoint's parameters as a graph takes them.</summary>
internal interface IGraphWeights
{
    /// <summary>The type in which the graph is given a parameter; what is not float32 it widens itself.</summary>
    OnnxType TypeOf(string name);

    /// <summary>A parameter in that type.</summary>
    Tensor Bound(string name);

    /// <summary>A parameter as f32.</summary>
    Tensor Float(string name);

    /// <summary>The embedding table, in its stored type.</summary>
    Tensor Shared { get; }
}

/// <summary>The one copy of each weight that a device holds for our own kernels too.</summary>
/// <param name="weights">On the device; outlives this object.</param>
/// <param name="checkpoint">Theirs.</param>
internal sealed class DeviceGraphWeights(BlockWeights weights, Checkpoint checkpoint) : IGraphWeights
{
    public Tensor Shared => weights.Matrix(T5Parameters.Shared);

    /// <summary>Refuses codes with scales: a graph that widened them would hold float32 copies, and the model was chosen for its size.</summary>
    /// <exception cref="NotSupportedException">There are some; named with what to do.</exception>
    public static void RequireNumbers(Checkpoint checkpoint, string device)
    {
        foreach (T5Parameter parameter in T5Parameters.Of(checkpoint.Config))
        {
            if (checkpoint[parameter.Name].Scales.IsPresent)
                throw new NotSupportedException($"{checkpoint.Location}: a forward pass by ONNX Runtime on {device}; '{parameter.Name}' is {WeightFormats.Name(checkpoint[parameter.Name].DType)}, expected f32, bf16 or f16. Choose --forward native, which reads the codes as they are, or export the checkpoint with --dtype bf16.");
        }
    }

    public OnnxType TypeOf(string name) => checkpoint[name].DType switch
    {
        DType.F16 => OnnxType.Float16,
        DType.BF16 => OnnxType.BFloat16,
        _ => OnnxType.Float,
    };

    public Tensor Bound(string name) => weights.Matrix(name);

    public Tensor Float(string name) => weights.Vector(name);
}
