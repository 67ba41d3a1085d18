// A batch without padding: ids, prompt places, shifted decoder inputs and labels of all examples one after another. Padded: InputAssembler.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Backward;

/// <summary>Lays a batch out row by row in memory that is used again at every step, and hands it to the device.</summary>
internal sealed unsafe class PackedInputs(ComputeDevice device, T5Config config) : IDisposable
{
    private readonly StagedBuffer _ids = new(device, DType.I32, "input ids");
    private readonly StagedBuffer _places = new(device, DType.I32, "prompt places");
    private readonly StagedBuffer _targetIds = new(device, DType.I32, "decoder input ids");
    private readonly StagedBuffer _labels = new(device, DType.I32, "labels");
    private int[] _lengths = [];

    /// <summary>Where the encoder's examples lie, prompt rows included.</summary>
    public RaggedRows Sources { get; } = new();

    /// <summary>Where the decoder's examples lie. Ignored labels at an example's end have no row: nothing that counts reads them.</summary>
    public RaggedRows Targets { get; } = new();

    /// <summary>i32 [R]; <see cref="EmbeddingGather.Keep"/> at prompt rows.</summary>
    public Tensor Ids { get; private set; }

    /// <summary>i32 [PlaceCount, 3] for PromptGather's packed form.</summary>
    public Tensor Places { get; private set; }

    /// <summary>Stretches of prompt rows in the batch.</summary>
    public int PlaceCount { get; private set; }

    /// <summary>i32 [RT], labels shifted right behind decoder_start_token_id.</summary>
    public Tensor TargetIds { get; private set; }

    /// <summary>i32 [RT], -100 where a token does not count.</summary>
    public Tensor Labels { get; private set; }

    /// <summary>Takes a batch.</summary>
    /// <exception cref="ArgumentException">The batch is empty, an example has no label that counts, an id is outside the vocabulary, or a prompt does not fit.</exception>
    public void Set(T5Batch batch, PromptTable? prompts)
    {
        SetSources(batch, prompts);
        int examples = batch.Count;
        for (int b = 0; b < examples; b++)
        {
            _lengths[b] = Counted(batch.Labels(b)).Length;
            if (_lengths[b] == 0)
                throw new ArgumentException($"scoring a batch: example {b} has no label that counts, expected at least one. Give labels to T5Batch.Add.", nameof(batch));
        }
        Targets.Set(_lengths.AsSpan(0, examples));

        int* targetIds = (int*)_targetIds.Take(Targets.Rows), labels = (int*)_labels.Take(Targets.Rows);
        for (int b = 0; b < examples; b++)
            SetTarget(batch, b, targetIds, labels);
        TargetIds = _targetIds.Send();
        Labels = _labels.Send();
    }

    /// <summary>Takes what the encoder reads of a batch; labels are not looked at.</summary>
    /// <exception cref="ArgumentException">The batch is empty, an id is outside the vocabulary, or a prompt does not fit.</exception>
    public void SetSources(T5Batch batch, PromptTable? prompts)
    {
        BatchChecks.SourceLength(batch, prompts, config);
        int examples = batch.Count;
        if (_lengths.Length < examples)
            _lengths = new int[examples];
        for (int b = 0; b < examples; b++)
            _lengths[b] = PromptPlaces.Length(batch, prompts, b);
        Sources.Set(_lengths.AsSpan(0, examples));
        int* ids = (int*)_ids.Take(Sources.Rows);
        PlaceCount = PromptPlaces.Count(batch);
        int* place = (int*)_places.Take((long)PlaceCount * PromptGather.PlaceWidth);
        for (int b = 0; b < examples; b++)
            place = PromptPlaces.Lay(batch, prompts, b, new Span<int>(ids + Sources.Offset(b), Sources.Length(b)), Sources.Offset(b), place, config);
        Ids = _ids.Send();
        Places = _places.Send();
    }

    /// <summary>Takes some neighbouring examples of a batch that another CPU device holds: its ids and labels as they lie there.</summary>
    /// <param name="whole">The batch; not changed while this part of it is in use.</param>
    /// <param name="first">First example.</param>
    /// <param name="count">1 or more.</param>
    public void SetPart(PackedInputs whole, int first, int count)
    {
        if (_lengths.Length < count)
            _lengths = new int[count];
        SetPart(Sources, whole.Sources, first, count);
        SetPart(Targets, whole.Targets, first, count);
        int source = whole.Sources.Offset(first), target = whole.Targets.Offset(first);
        Ids = whole.Ids.Slice(source, Sources.Rows) with { Device = device };
        TargetIds = whole.TargetIds.Slice(target, Targets.Rows) with { Device = device };
        Labels = whole.Labels.Slice(target, Targets.Rows) with { Device = device };

        // Stretches lie in the order of their examples; the rows are counted from the part's first.
        var all = new ReadOnlySpan<int>((int*)whole.Places.Address, whole.PlaceCount * PromptGather.PlaceWidth);
        int begin = 0;
        while (begin < all.Length && all[begin + 2] < source)
            begin += PromptGather.PlaceWidth;
        int end = begin;
        while (end < all.Length && all[end + 2] < source + Sources.Rows)
            end += PromptGather.PlaceWidth;
        PlaceCount = (end - begin) / PromptGather.PlaceWidth;
        var own = new Span<int>((int*)_places.Take(Math.Max(1, end - begin)), end - begin);
        all[begin..end].CopyTo(own);
        for (int i = 2; i < own.Length; i += PromptGather.PlaceWidth)
            own[i] -= source;
        Places = _places.Tensor.Slice(0, own.Length);
    }

    /// <summary>Takes memory for parts of so many examples and stretches before they come.</summary>
    public void Reserve(int examples, int places)
    {
        if (_lengths.Length < examples)
            _lengths = new int[examples];
        Sources.Reserve(examples);
        Targets.Reserve(examples);
        _places.Take(Math.Max(1, places) * (long)PromptGather.PlaceWidth);
    }

    private void SetPart(RaggedRows rows, RaggedRows whole, int first, int count)
    {
        for (int i = 0; i < count; i++)
            _lengths[i] = whole.Length(first + i);
        rows.Set(_lengths.AsSpan(0, count));
    }

    public void Dispose()
    {
        _ids.Dispose();
        _places.Dispose();
        _targetIds.Dispose();
        _labels.Dispose();
    }

    private static ReadOnlySpan<int> Counted(ReadOnlySpan<int> labels) => labels[..(labels.LastIndexOfAnyExcept(T5Batch.Ignore) + 1)];

    private void SetTarget(T5Batch batch, int b, int* targetIds, int* rows)
    {
        ReadOnlySpan<int> labels = Counted(batch.Labels(b));
        BatchChecks.RequireIds(labels, b, "label", config, T5Batch.Ignore);
        labels.CopyTo(new Span<int>(rows + Targets.Offset(b), labels.Length));
        InputAssembler.ShiftRight(labels, new Span<int>(targetIds + Targets.Offset(b), labels.Length), config);
    }
}
