// Weights that pass through memory block by block: each is read ahead while its neighbour computes, and given back behind. For files larger than memory.
// Deliberately without buffers of its own: the file's pages are the buffer, and the system keeps as many of them cached as it has room for.
using System.Globalization;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Model.Blocks;

/// <summary>Which pages of the mapped weights are in the process' memory: those of the block at work, and no others.</summary>
/// <remarks>Norms and position biases are a few KB and stay. The process holds one block, or lm_head, whatever the number of layers.</remarks>
internal sealed class WeightStream
{
    private readonly record struct Range(nint Address, long Bytes);

    private readonly Checkpoint _checkpoint;
    private readonly List<Range>[] _segments;
    private readonly List<Range> _embeddings = [];
    private int _current = -1;

    /// <summary>Finds each block's bytes.</summary>
    /// <param name="checkpoint">Its weights are used where the file has them.</param>
    /// <exception cref="InvalidDataException">A weight does not lie in the file as it is used, so that its memory cannot be given back.</exception>
    /// <exception cref="PlatformNotSupportedException">The system takes no advice on pages.</exception>
    public WeightStream(Checkpoint checkpoint)
    {
        if (!FilePages.IsSupported)
            throw new PlatformNotSupportedException("streamed weights: this system is not told which pages to keep, which needs Linux. Use --weights mapped: the system then decides alone.");
        _checkpoint = checkpoint;
        T5Config config = checkpoint.Config;
        Head = config.NumLayers + config.NumDecoderLayers;
        _segments = new List<Range>[Head + 1];
        for (int i = 0; i <= Head; i++)
            _segments[i] = [];
        foreach (T5Parameter parameter in T5Parameters.Of(config))
        {
            if (parameter.Shape.Rank != 2 || parameter.Name.EndsWith("relative_attention_bias.weight", StringComparison.Ordinal))
                continue;
            Weight weight = checkpoint[parameter.Name];
            if (!checkpoint.IsMapped(weight))
                throw new InvalidDataException($"{checkpoint.Location}: streaming weights; '{parameter.Name}' does not lie in its file as it is used and had to be copied. Make a package of it, which can be streamed: iptnative export --checkpoint {checkpoint.Location} --out DIR.");
            if (parameter.Name == T5Parameters.Shared)
                Add(_embeddings, weight);
            if (Segment(parameter.Name, config) is { } segment)
                Add(_segments[segment], weight);
        }
    }

    /// <summary>Number of the loss head; encoder blocks come first, then decoder blocks.</summary>
    public int Head { get; }

    /// <summary>Bytes of the largest block, or of the head.</summary>
    public long LargestBytes => _segments.Max(s => s.Sum(r => r.Bytes));

    /// <summary>Brings a block into memory, lets the one before go, and has the next one read from the disk meanwhile.</summary>
    /// <param name="segment">The block.</param>
    /// <param name="next">The block after it; -1 for none.</param>
    /// <exception cref="IOException">The file was truncated or rewritten.</exception>
    public void Enter(int segment, int next)
    {
        if (_current >= 0 && _current != segment)
            Forget(_segments[_current]);
        _current = segment;
        // Asked before touching pages that may be gone; between this and the arithmetic lie milliseconds.
        _checkpoint.RequireUnchanged();
        foreach (Range range in _segments[segment])
        {
            if (!FilePages.Read(range.Address, range.Bytes))
                throw new IOException($"{_checkpoint.Location}: streaming weights; the file no longer holds what it did when it was opened, it was truncated. Export or copy it again.");
        }
        if (next >= 0)
        {
            foreach (Range range in _segments[next])
                FilePages.ReadAhead(range.Address, range.Bytes);
        }
    }

    /// <summary>Lets the embedding rows go that a batch has looked up.</summary>
    public void LeaveEmbeddings() => Forget(_embeddings);

    private static int? Segment(string name, T5Config config)
    {
        if (name == (config.TieWordEmbeddings ? T5Parameters.Shared : T5Parameters.LmHead))
            return config.NumLayers + config.NumDecoderLayers;
        string[] path = name.Split('.');
        if (path is not [var stack, "block", var index, ..])
            return null;
        return int.Parse(index, CultureInfo.InvariantCulture) + (stack == "decoder" ? config.NumLayers : 0);
    }

    private static void Add(List<Range> to, in Weight weight)
    {
        to.Add(new Range(weight.Address, weight.ByteLength));
        if (!weight.Scales.IsPresent)
            return;
        long blocks = weight.Shape.Elements / weight.Scales.Block;
        to.Add(new Range(weight.Scales.Address, sizeof(float) * blocks));
        if (weight.Scales.ZeroPoints != 0)
            to.Add(new Range(weight.Scales.ZeroPoints, (blocks + 1) / 2));
    }

    private static void Forget(List<Range> ranges)
    {
        foreach (Range range in ranges)
            FilePages.Forget(range.Address, range.Bytes);
    }
}
