// Where ONNX Runtime computes: whose memory its tensors are in, which provider a session gets, how its work and ours are put in order. Graphs, bindings and
// passes are the same everywhere. This file: the CPU. Deliberately not: CUDA (CudaPlace.cs).
using System.Runtime.CompilerServices;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Tensor = IptNative.Kernels.Devices.Tensor;

namespace IptNative.Model.Forward;

/// <summary>A kind of memory, and the provider that computes in it; this one is the host's.</summary>
internal class RuntimePlace
{
    // A device has one for its life: a provider is looked for and registered once, however many passes there are.
    private static readonly ConditionalWeakTable<ComputeDevice, RuntimePlace> Places = [];

    /// <summary>The CPU.</summary>
    public static RuntimePlace Host { get; } = new();

    /// <summary>The place that belongs to a device.</summary>
    /// <param name="device">Where tensors lie.</param>
    /// <returns>One that lives no longer than the device.</returns>
    /// <exception cref="NotSupportedException">ONNX Runtime cannot compute there; the message says why and what to do.</exception>
    public static RuntimePlace Of(ComputeDevice device) => device is CpuDevice ? Host : Places.GetValue(device, Open);

    /// <summary>Says how ONNX Runtime computes on a kind of device that nothing else is known of.</summary>
    /// <param name="device">Not the CPU.</param>
    /// <param name="place">Lives as long as the device.</param>
    internal static void Provide(ComputeDevice device, RuntimePlace place) => Places.AddOrUpdate(device, place);

    private static RuntimePlace Open(ComputeDevice device) =>
        device.Cuda is not null ? CudaPlace.Open(device)
        : throw new NotSupportedException($"a forward pass by ONNX Runtime on {device.Name}: it has no provider for this device, expected the CPU or CUDA. Use --forward native, or --device cpu.");

    /// <summary>For messages: cpu, cuda:0.</summary>
    public virtual string Name => "cpu";

    /// <summary>Where the provider is from, and how its work is put in order with ours.</summary>
    public virtual string Description => "ONNX Runtime's CPU kernels, each pass done when it returns";

    /// <summary>The memory that tensors are in.</summary>
    protected virtual OrtMemoryInfo Memory => OrtMemoryInfo.DefaultInstance;

    /// <summary>A tensor as ONNX Runtime sees it, without a copy.</summary>
    /// <param name="tensor">In this place's memory.</param>
    /// <param name="shape">As many elements as the tensor has.</param>
    public OrtValue ValueOf(in Tensor tensor, long[] shape)
    {
        TensorElementType type = tensor.DType switch
        {
            DType.F32 => TensorElementType.Float,
            DType.I32 => TensorElementType.Int32,
            DType.F16 => TensorElementType.Float16,
            DType.BF16 => TensorElementType.BFloat16,
            _ => throw new ArgumentException($"a tensor for ONNX Runtime: found {tensor.DType.Name()}, expected f32, f16, bf16 or i32.", nameof(tensor)),
        };
        return OrtValue.CreateTensorValueWithData(Memory, type, shape, Address(tensor), tensor.DType.ByteLength(tensor.Elements));
    }

    /// <summary>Makes a session that computes here.</summary>
    /// <param name="model">A serialised ModelProto.</param>
    /// <param name="session">Settings; the provider is added.</param>
    /// <exception cref="NotSupportedException">The provider does not take the model, or does not start; the message is ONNX Runtime's.</exception>
    public InferenceSession Open(byte[] model, SessionOptions session)
    {
        try
        {
            Configure(session);
            return new InferenceSession(model, session);
        }
        // On the CPU it is our mistake, and the stack says where.
        catch (OnnxRuntimeException e) when (!ReferenceEquals(this, Host))
        {
            throw new NotSupportedException($"a session of ONNX Runtime on {Name} ({Description}): {e.Message}; expected every node to be computed there. 'iptnative doctor' says which libraries are found. Use --forward native, or --device cpu.", e);
        }
    }

    /// <summary>Gives a session its provider.</summary>
    protected virtual void Configure(SessionOptions session)
    {
        OrtArena.Register();
        session.AddSessionConfigEntry("session.use_env_allocators", "1");
    }

    /// <summary>Settings of every run.</summary>
    public virtual void Configure(RunOptions run)
    {
    }

    /// <summary>Puts what was handed to the device before in front of the run that comes now.</summary>
    public virtual void Begin()
    {
    }

    /// <summary>Puts the run in front of what is handed to the device next.</summary>
    public virtual void End(OrtIoBinding binding)
    {
    }

    /// <summary>The address that ONNX Runtime knows the tensor by.</summary>
    protected virtual nint Address(in Tensor tensor) => tensor.Address;
}

/// <summary>The host memory in which every session of the process keeps its intermediate tensors.</summary>
internal static class OrtArena
{
    // 1 is kSameAsRequested: an arena that doubles holds up to twice what a pass needs.
    private const int SameAsRequested = 1;
    private const int InitialBytes = 1 << 16;

    private static readonly Lazy<bool> Registered = new(() =>
    {
        using var memory = new OrtMemoryInfo("Cpu", OrtAllocatorType.ArenaAllocator, 0, OrtMemType.Default);
        using var arena = new OrtArenaCfg(0, SameAsRequested, InitialBytes, -1);
        OrtEnv.Instance().CreateAndRegisterAllocator(memory, arena);
        return true;
    });

    /// <summary>Makes the shared arena, once in a process: encoder and decoder run one after the other and use the same memory.</summary>
    public static void Register() => _ = Registered.Value;
}
