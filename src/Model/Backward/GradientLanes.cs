// A batch in lanes: each thread takes whole examples through forward, loss and backward by itself, where a small model's ops are too short to be shared out
// one by one. Deliberately without sums over examples: losses and gradients stay each example's own, and GradientPass adds them in the batch's order.
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using static IptNative.Model.Blocks.BlockScratch;

namespace IptNative.Model.Backward;

/// <summary>One lane for each worker of a device's pool, all over the same mapped weights.</summary>
/// <remarks>
/// Numerics: the bits are those of the undivided batch. Every kernel computes a row, or an example's head, in an order of its own that no neighbour enters,
/// so neither the cut nor the number of lanes is in the result.
/// Memory: a lane holds the tape of its own part only, so a step holds that of a few parts, however many examples it has.
/// </remarks>
internal sealed class GradientLanes : IDisposable
{
    /// <summary>Weights up to this many bytes, f32 or narrower: a part's products are then short, and every lane's weights come from the cache that they share.</summary>
    public const long MostWeightBytes = 64 << 20;

    // Rows of a part at most: enough for the products, and its tape stays near.
    private const int MostRows = 1024;

    private readonly CpuDevice _device;
    private readonly Lane[] _lanes;
    private readonly GCHandle _self;
    private int[] _first = [0];
    private int _parts;
    private LaneRoom _room;

    // The pass that is under way.
    private PackedInputs? _inputs;
    private PromptTable? _prompts;
    private Tensor _weights, _losses, _dencoder;

    private GradientLanes(CpuDevice device, Checkpoint checkpoint, GradientOptions options)
    {
        _device = device;
        _lanes = new Lane[device.Pool.Workers];
        for (int i = 0; i < _lanes.Length; i++)
            _lanes[i] = new Lane(device, checkpoint, options);
        // A body of the pool is unmanaged: this is how it finds its way back here.
        _self = GCHandle.Alloc(this);
    }

    /// <summary>Lanes where they pay: on several threads of the CPU, our own kernels, a small model whose weights and tape stay in memory, and nobody who asks for each pass' own time.</summary>
    /// <returns>Null elsewhere.</returns>
    public static GradientLanes? TryCreate(ComputeDevice device, Checkpoint checkpoint, GradientOptions options)
    {
        if (device is not CpuDevice { Pool.Workers: > 1 } cpu || options.Forward != ForwardEngine.Native || options.SpillFolder is not null || options.Weights == WeightResidence.Streamed || options.TimesPasses)
            return null;
        long bytes = 0;
        foreach (T5Parameter parameter in T5Parameters.Of(checkpoint.Config))
            bytes += checkpoint[parameter.Name].ByteLength;
        return bytes <= MostWeightBytes ? new GradientLanes(cpu, checkpoint, options) : null;
    }

    /// <summary>Bytes of activations, gradients and scratch held by all lanes.</summary>
    public long Bytes => _lanes.Sum(l => l.Bytes);

    /// <summary>Whether a batch has enough examples to keep every lane busy; fewer are faster op by op.</summary>
    public bool Suit(PackedInputs inputs) => inputs.Sources.Examples >= 2 * _lanes.Length;

    /// <summary>Both passes over a batch.</summary>
    /// <param name="inputs">The batch on the pool's device.</param>
    /// <param name="prompts">Its prompts.</param>
    /// <param name="weights">f64 [RT], what each token counts.</param>
    /// <param name="losses">f64 [RT], overwritten; unweighted.</param>
    /// <param name="dencoder">f32 [R, D], overwritten: the gradient of every input position; empty where none is wanted.</param>
    public void Run(PackedInputs inputs, PromptTable? prompts, Tensor weights, Tensor losses, Tensor dencoder)
    {
        (_inputs, _prompts, _weights, _losses, _dencoder) = (inputs, prompts, weights, losses, dencoder);
        Cut(inputs.Sources);
        Reserve(inputs);
        var body = new Body(GCHandle.ToIntPtr(_self));
        _device.Pool.Run(_parts, ref body);
    }

    public void Dispose()
    {
        foreach (Lane lane in _lanes)
            lane.Dispose();
        _self.Free();
    }

    // Neighbouring examples of about equally many rows together, and as many parts for each lane.
    private void Cut(RaggedRows rows)
    {
        int wanted = Parts(rows.Rows);
        if (_first.Length <= wanted)
            _first = new int[wanted + 1];
        int example = 0;
        _parts = 0;
        for (int part = 1; part <= wanted && example < rows.Examples; part++)
        {
            _first[_parts++] = example;
            long until = (long)rows.Rows * part / wanted;
            do
                example++;
            while (example < rows.Examples && rows.Offset(example + 1) <= until);
        }
        _first[_parts] = rows.Examples;
    }

    private int Parts(int rows)
    {
        int rounds = (rows + (MostRows * _lanes.Length) - 1) / (MostRows * _lanes.Length);
        return rounds * _lanes.Length;
    }

    // Whichever lane a part comes to has room for it: memory is taken here, for all of them, and in strides, since the largest part of a batch varies more than the batch.
    private void Reserve(PackedInputs inputs)
    {
        LaneRoom needed = _room;
        for (int part = 0; part < _parts; part++)
        {
            int first = _first[part], end = _first[part + 1];
            needed = needed.With(end - first, inputs.Sources.Offset(end) - inputs.Sources.Offset(first), inputs.Targets.Offset(end) - inputs.Targets.Offset(first));
        }
        needed = needed with { LongestSource = Math.Max(needed.LongestSource, inputs.Sources.MaxLength), LongestTarget = Math.Max(needed.LongestTarget, inputs.Targets.MaxLength), Places = Math.Max(needed.Places, inputs.PlaceCount) };
        if (needed == _room)
            return;
        foreach (Lane lane in _lanes)
            lane.Reserve(needed);
        _room = needed;
    }

    private void Part(int part, int lane) => _lanes[lane].Run(_inputs!, _first[part], _first[part + 1] - _first[part], _prompts, _weights, _losses, _dencoder); // set by Run

    private readonly struct Body(nint lanes) : IParallelBody
    {
        private readonly nint _lanes = lanes;

        public void Invoke(int task, int worker) => ((GradientLanes)GCHandle.FromIntPtr(_lanes).Target!).Part(task, worker); // alive: it waits for this call
    }

    /// <summary>The largest part that there is room for.</summary>
    private readonly record struct LaneRoom(int Examples, int Sources, int Targets, int LongestSource, int LongestTarget, int Places)
    {
        private const int Stride = 256;

        public LaneRoom With(int examples, int sources, int targets) => this with
        {
            Examples = Grown(Examples, examples),
            Sources = Grown(Sources, sources),
            Targets = Grown(Targets, targets),
        };

        private static int Grown(int room, int needed) => needed <= room ? room : (needed + Stride - 1) / Stride * Stride;
    }

    /// <summary>What one thread computes with: a device of one thread, and everything that a pass keeps.</summary>
    private sealed class Lane : IDisposable
    {
        private readonly CpuDevice _device;
        private readonly BlockWeights _weights;
        private readonly T5Layers _layers;
        private readonly T5Backward _backward;
        private readonly LossHead _head;
        private readonly NativeForward _forward;
        private readonly PackedInputs _inputs;
        private readonly GrowingBuffer _ddecoder;
        private readonly TokenLoss _loss;
        private PromptTable? _known;
        private PromptTable? _prompts;

        public Lane(CpuDevice like, Checkpoint checkpoint, GradientOptions options)
        {
            _device = new CpuDevice(1, like.Compute);
            _weights = new BlockWeights(_device, checkpoint);
            _layers = new T5Layers(_weights);
            _backward = new T5Backward(_layers);
            _head = new LossHead(_layers);
            _forward = new NativeForward(_layers, options.Activations, options.Tape);
            _inputs = new PackedInputs(_device, checkpoint.Config);
            _ddecoder = new GrowingBuffer(_device, DType.F32, "decoder gradient");
            _loss = options.Loss;
        }

        public long Bytes => _forward.Bytes + _layers.Scratch.Bytes + _ddecoder.Bytes;

        public void Reserve(LaneRoom room)
        {
            int rows = Math.Max(room.Sources, room.Targets), d = _layers.Config.DModel, inner = _layers.Config.InnerDim, ff = _layers.Config.DFf;
            _forward.Reserve(room.Sources, room.Targets);
            _ddecoder.Take((long)room.Targets * d);
            _head.Reserve(room.Targets);
            _inputs.Reserve(room.Examples, room.Places);
            _layers.EncoderBias.ByDistance(room.LongestSource);
            _layers.DecoderBias.ByDistance(room.LongestTarget);
            _layers.Scratch.Take(Slot.InverseRms, rows);
            foreach (Slot slot in (ReadOnlySpan<Slot>)[Slot.Norm, Slot.Sublayer0, Slot.Sublayer1])
                _layers.Scratch.Take(slot, (long)rows * d);
            foreach (Slot slot in (ReadOnlySpan<Slot>)[Slot.Query, Slot.Key, Slot.Value, Slot.Context])
                _layers.Scratch.Take(slot, (long)rows * inner);
            foreach (Slot slot in (ReadOnlySpan<Slot>)[Slot.Gate, Slot.Up, Slot.DInner])
                _layers.Scratch.Take(slot, (long)rows * ff);
        }

        public void Run(PackedInputs whole, int first, int count, PromptTable? prompts, Tensor weights, Tensor losses, Tensor dencoder)
        {
            _inputs.SetPart(whole, first, count);
            _forward.Run(Here(prompts), _inputs);
            int d = _layers.Config.DModel, rows = _inputs.Targets.Rows, from = whole.Targets.Offset(first);
            Tensor ddecoder = dencoder.IsEmpty ? default : _ddecoder.Take((long)rows * d);
            _head.Run(_forward.Decoder.Last, _inputs.Labels, Here(weights, from, rows), Here(losses, from, rows), ddecoder, rows, _loss);
            if (!dencoder.IsEmpty)
                _backward.Run(_forward.Decoder, _inputs.Targets, _forward.Encoder, _inputs.Sources, _forward.EncoderOutput, ddecoder, Here(dencoder, (long)whole.Sources.Offset(first) * d, (long)_inputs.Sources.Rows * d));
        }

        public void Dispose()
        {
            _forward.Dispose();
            _ddecoder.Dispose();
            _inputs.Dispose();
            _head.Dispose();
            _layers.Dispose();
            _weights.Dispose();
            _device.Dispose();
        }

        // The host's memory is every CPU device's.
        private Tensor Here(Tensor values, long first, long elements) => values.Slice(first, elements) with { Device = _device };

        private PromptTable? Here(PromptTable? prompts)
        {
            // The same table step after step: its numbers change, not its place.
            if (!ReferenceEquals(prompts, _known))
                (_known, _prompts) = (prompts, prompts?.On(prompts.Values with { Device = _device }));
            return _prompts;
        }
    }
}
