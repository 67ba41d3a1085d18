// One graph in ONNX Runtime: its session, and bindings whose weights are bound once and whose other tensors are bound when they move or change shape.
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Graph;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Tensor = IptNative.Kernels.Devices.Tensor;

namespace IptNative.Model.Forward;

/// <summary>A session over a <see cref="RuntimeGraph"/>.</summary>
internal sealed class GraphSession : IDisposable
{
    private readonly InferenceSession _session;
    private readonly Dictionary<string, long[]> _shapes;
    private readonly FrozenWeights _weights;
    private readonly Dictionary<string, OrtValue> _values = [];

    public GraphSession(RuntimeGraph graph, T5Config config, FrozenWeights weights, FrozenT5Options options)
    {
        Graph = graph;
        _weights = weights;
        _shapes = T5Parameters.Of(config).ToDictionary(p => p.Name, p => p.Shape.Dims.ToArray());
        OrtArena.Register();
        using var session = new SessionOptions
        {
            // The graph is written as it should run: with it, optimisation finds nothing and only delays the start.
            GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL,
            IntraOpNumThreads = options.Threads,
            InterOpNumThreads = 1,
            // A pattern is kept for every shape ever seen, and lengths differ from batch to batch.
            EnableMemoryPattern = false,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR,
        };
        session.AddSessionConfigEntry("session.intra_op.allow_spinning", options.AllowSpinning ? "1" : "0");
        session.AddSessionConfigEntry("session.use_env_allocators", "1");
        _session = new InferenceSession(graph.Model, session);
    }

    public RuntimeGraph Graph { get; }

    /// <summary>A new set of bound tensors; the weights are already in it.</summary>
    public GraphBinding Bind()
    {
        var binding = new GraphBinding(_session);
        foreach (string name in Graph.Weights)
        {
            // One value for all bindings: a binding is made for every shape of a batch.
            if (!_values.TryGetValue(name, out OrtValue? value))
            {
                value = GraphBinding.ValueOf(_weights.Float(name), _shapes[name]);
                _values.Add(name, value);
            }
            binding.Weight(name, value);
        }
        return binding;
    }

    public void Dispose()
    {
        foreach (OrtValue value in _values.Values)
            value.Dispose();
        _session.Dispose();
    }
}

/// <summary>The tensors of one run after the other.</summary>
internal sealed class GraphBinding : IDisposable
{
    private sealed class Slot
    {
        public nint Address;
        public long[] Shape = [];
        public OrtValue? Value;
    }

    private readonly InferenceSession _session;
    private readonly OrtIoBinding _binding;
    private readonly RunOptions _runOptions = new();
    private readonly Dictionary<string, Slot> _slots = [];

    public GraphBinding(InferenceSession session)
    {
        _session = session;
        _binding = session.CreateIoBinding();
    }

    /// <summary>Gives an input a value that outlives this binding.</summary>
    public void Weight(string name, OrtValue value) => _binding.BindInput(name, value);

    /// <summary>A tensor as ONNX Runtime sees it, without a copy.</summary>
    public static OrtValue ValueOf(in Tensor tensor, long[] shape) => OrtValue.CreateTensorValueWithData(
        OrtMemoryInfo.DefaultInstance, tensor.DType == DType.I32 ? TensorElementType.Int32 : TensorElementType.Float, shape, tensor.Address, tensor.DType.ByteLength(tensor.Elements));

    /// <summary>Gives an input its memory; nothing happens, and nothing is allocated, where it already has that memory and shape.</summary>
    public void Input(string name, in Tensor tensor, params ReadOnlySpan<long> shape) => Bind(name, tensor, shape, isInput: true);

    /// <summary>Gives an output its memory.</summary>
    public void Output(string name, in Tensor tensor, params ReadOnlySpan<long> shape) => Bind(name, tensor, shape, isInput: false);

    public void Run() => _session.RunWithBinding(_runOptions, _binding);

    public void Dispose()
    {
        _binding.Dispose();
        foreach (Slot slot in _slots.Values)
            slot.Value?.Dispose();
        _runOptions.Dispose();
    }

    private void Bind(string name, in Tensor tensor, ReadOnlySpan<long> shape, bool isInput)
    {
        ref Slot? slot = ref CollectionsMarshal.GetValueRefOrAddDefault(_slots, name, out _);
        slot ??= new Slot();
        if (slot.Address == tensor.Address && shape.SequenceEqual(slot.Shape))
            return;
        if (slot.Shape.Length == shape.Length)
            shape.CopyTo(slot.Shape);
        else
            slot.Shape = shape.ToArray();
        slot.Address = tensor.Address;
        slot.Value?.Dispose();
        slot.Value = ValueOf(tensor, slot.Shape);
        if (isInput)
            _binding.BindInput(name, slot.Value);
        else
            _binding.BindOutput(name, slot.Value);
    }
}

/// <summary>The memory in which every session of the process keeps its intermediate tensors.</summary>
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
