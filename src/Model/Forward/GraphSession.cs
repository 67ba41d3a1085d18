// One graph in ONNX Runtime: its session, and bindings whose weights are bound once and whose other tensors are bound when they move or change shape.
using System.Runtime.InteropServices;
using IptNative.Model.Config;
using IptNative.Model.Onnx.Graph;
using Microsoft.ML.OnnxRuntime;
using Tensor = IptNative.Kernels.Devices.Tensor;

namespace IptNative.Model.Forward;

/// <summary>A session over a <see cref="RuntimeGraph"/>.</summary>
internal sealed class GraphSession : IDisposable
{
    private readonly InferenceSession _session;
    private readonly Dictionary<string, long[]> _shapes;
    private readonly IGraphWeights _weights;
    private readonly RuntimePlace _place;
    private readonly Dictionary<string, OrtValue> _values = [];

    public GraphSession(RuntimeGraph graph, T5Config config, IGraphWeights weights, FrozenT5Options options, RuntimePlace place)
    {
        Graph = graph;
        _weights = weights;
        _place = place;
        _shapes = T5Parameters.Of(config).ToDictionary(p => p.Name, p => p.Shape.Dims.ToArray());
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
        _session = place.Open(graph.Model, session);
    }

    public RuntimeGraph Graph { get; }

    /// <summary>A new set of bound tensors; the weights are already in it.</summary>
    public GraphBinding Bind()
    {
        var binding = new GraphBinding(_session, _place);
        foreach (string name in Graph.Weights)
        {
            // One value for all bindings: a binding is made for every shape of a batch.
            if (!_values.TryGetValue(name, out OrtValue? value))
            {
                value = _place.ValueOf(_weights.Bound(name), _shapes[name]);
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
    private readonly RuntimePlace _place;
    private readonly OrtIoBinding _binding;
    private readonly RunOptions _runOptions = new();
    private readonly Dictionary<string, Slot> _slots = [];

    public GraphBinding(InferenceSession session, RuntimePlace place)
    {
        _session = session;
        _place = place;
        _binding = session.CreateIoBinding();
        place.Configure(_runOptions);
    }

    /// <summary>Gives an input a value that outlives this binding.</summary>
    public void Weight(string name, OrtValue value) => _binding.BindInput(name, value);

    /// <summary>Gives an input its memory; nothing happens, and nothing is allocated, where it already has that memory and shape.</summary>
    public void Input(string name, in Tensor tensor, params ReadOnlySpan<long> shape) => Bind(name, tensor, shape, isInput: true);

    /// <summary>Gives an output its memory.</summary>
    public void Output(string name, in Tensor tensor, params ReadOnlySpan<long> shape) => Bind(name, tensor, shape, isInput: false);

    /// <summary>Runs the graph over what is bound.</summary>
    /// <exception cref="InsufficientMemoryException">ONNX Runtime has no room for its intermediate tensors.</exception>
    public void Run()
    {
        _place.Begin();
        try
        {
            _session.RunWithBinding(_runOptions, _binding);
        }
        catch (OnnxRuntimeException e) when (IsNoRoom(e.Message))
        {
            throw new InsufficientMemoryException($"a pass by ONNX Runtime on {_place.Name}: it has no room for its intermediate tensors ({e.Message}). Use a smaller batch or shorter texts, or --forward native, which holds no arena.", e);
        }
        _place.End(_binding);
    }

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
        slot.Value = _place.ValueOf(tensor, slot.Shape);
        if (isInput)
            _binding.BindInput(name, slot.Value);
        else
            _binding.BindOutput(name, slot.Value);
    }

    // Its arenas and allocators have no error code of their own.
    internal static bool IsNoRoom(string message) =>
        message.Contains("Failed to allocate memory", StringComparison.Ordinal) || message.Contains("Available memory of", StringComparison.Ordinal)
        || message.Contains("bad_alloc", StringComparison.Ordinal) || message.Contains("out of memory", StringComparison.OrdinalIgnoreCase);
}
