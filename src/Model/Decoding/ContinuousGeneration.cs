// Many texts in one batch, joining and leaving between steps. Deliberately not: a thread, a queue or a policy of who joins when (the caller's).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Model.Decoding;

/// <summary>Continuous batching over a frozen T5: each step gives every live text one token.</summary>
/// <remarks>
/// A text is what it would be alone, bit for bit: it has its own options, random stream and slot of the cache, and no sum's order depends on how many stand
/// beside it (SlotDecoder). Joining and leaving copies nothing of another text's. Not thread-safe.
/// </remarks>
public sealed class ContinuousGeneration : IDisposable
{
    private sealed class Row(LiveRequest request, int sample)
    {
        // A field: the struct changes as it goes.
        public RunningSequence Sequence = new(SplitMix64.Of(request.Options.Seed, request.Stream, sample), logProbs: false);

        public LiveRequest Request => request;

        public int Sample => sample;
    }

    private readonly List<Row> _rows = [];
    private readonly List<int> _from = [];
    private readonly T5Config _config;
    private readonly BlockWeights _weights;
    private readonly T5Layers _layers;
    private readonly PackedInputs _inputs;
    private readonly NativeForward? _encoder;
    private readonly PackedEncoder? _packedEncoder;
    private readonly NativeSteps _steps;
    private readonly SlotDecoder _decoder;
    private TokenSampler? _sampler;
    private int[] _tokens = [];

    /// <summary>Finds the weights.</summary>
    /// <param name="checkpoint">The frozen model's weights; outlives this object.</param>
    /// <param name="device">Does the work, in its own precision; outlives this object.</param>
    /// <param name="shared">Packed copies that several of these read; outlives them. Null: copies of its own.</param>
    /// <exception cref="ArgumentException">The configuration's position buckets are impossible.</exception>
    /// <exception cref="InsufficientMemoryException">The device has no room for the weights.</exception>
    /// <exception cref="InvalidDataException">A weight cannot be read.</exception>
    public ContinuousGeneration(Checkpoint checkpoint, ComputeDevice device, PackedWeights? shared = null)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        ArgumentNullException.ThrowIfNull(device);
        _config = checkpoint.Config;
        RelativePositionBias.Bucket(0, bidirectional: false, _config.RelativeAttentionNumBuckets, _config.RelativeAttentionMaxDistance);
        _weights = new BlockWeights(device, checkpoint);
        try
        {
            _layers = new T5Layers(_weights);
        }
        catch
        {
            _weights.Dispose();
            throw;
        }
        _inputs = new PackedInputs(device, _config);
        if (PackedEncoder.Suits(_layers, device.Compute))
            _packedEncoder = new PackedEncoder(_layers, device.Compute, shared);
        else
            _encoder = new NativeForward(_layers, null);
        _steps = new NativeSteps(_layers, device.Compute, shared);
        _decoder = new SlotDecoder(_steps);
    }

    /// <summary>Texts that are being generated.</summary>
    public int Rows => _rows.Count;

    /// <summary>Encodes examples and lets them join; their first token comes with the next <see cref="Step"/>.</summary>
    /// <param name="batch">The examples' ids and prompts.</param>
    /// <param name="prompts">The table that the prompt numbers mean; null where none has a prompt. Not needed any more after this call.</param>
    /// <param name="requests">One per example, in the same order.</param>
    /// <exception cref="ArgumentException">The numbers of examples and requests differ, or as <see cref="FrozenT5.Encode"/>. Nothing has joined.</exception>
    /// <exception cref="InsufficientMemoryException">The texts are too long for this machine. Nothing has joined.</exception>
    public void Join(T5Batch batch, PromptTable? prompts, IReadOnlyList<LiveRequest> requests)
    {
        ArgumentNullException.ThrowIfNull(batch);
        ArgumentNullException.ThrowIfNull(requests);
        if (batch.Count != requests.Count)
            throw new ArgumentException($"Continuous generation: found {batch.Count} examples and {requests.Count} requests; expected one request for each.", nameof(requests));
        if (requests.Count == 0)
            return;
        // The rows of one request share their text's row until the first step, as their first tokens come from the same logits.
        int first = _decoder.Rows;
        _inputs.SetSources(batch, prompts);
        _decoder.Join(Encode(prompts), _inputs.Sources);
        for (int i = 0; i < requests.Count; i++)
        {
            for (int sample = 0; sample < requests[i].Options.NumReturnSequences; sample++)
            {
                _rows.Add(new Row(requests[i], sample));
                _from.Add(first + i);
            }
        }
        Grow(ref _tokens, _decoder.Rows);
        _tokens.AsSpan(first, requests.Count).Fill(_config.DecoderStartTokenId);
    }

    /// <summary>Gives every text its next token, and takes out those that have ended.</summary>
    /// <exception cref="Exception">A pass failed: tell the requests by <see cref="FailAll"/>.</exception>
    public void Step()
    {
        DropUnwanted();
        if (_rows.Count == 0)
            return;
        int vocab = _decoder.VocabSize;
        ReadOnlySpan<float> logits = _decoder.DecodeNext(_tokens.AsSpan(0, _decoder.Rows));
        int next = 0;
        Grow(ref _tokens, _rows.Count);
        for (int i = 0; i < _rows.Count; i++)
        {
            Row row = _rows[i];
            int token = Advance(row, logits.Slice(_from[i] * vocab, vocab), _from[i]);
            if (token < 0)
                continue;
            (_rows[next], _from[next], _tokens[next]) = (row, _from[i], token);
            next++;
        }
        Keep(next);
    }

    /// <summary>Ends every text with an error, for example after a failed step, and gives back what they held.</summary>
    /// <param name="error">What the requests are told.</param>
    public void FailAll(Exception error)
    {
        foreach (LiveRequest request in _rows.Select(r => r.Request).Distinct())
            request.Failed(error);
        Keep(0);
        _steps.Memory.Trim();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _decoder.Dispose();
        _steps.Dispose();
        _encoder?.Dispose();
        _packedEncoder?.Dispose();
        _inputs.Dispose();
        _layers.Dispose();
        _weights.Dispose();
    }

    private Tensor Encode(PromptTable? prompts)
    {
        try
        {
            return EncodeSources(prompts);
        }
        catch (InsufficientMemoryException) when (_steps.Memory.HasIdle)
        {
            // Blocks that are kept for the next texts are what is in the way.
            _steps.Memory.Trim();
            return EncodeSources(prompts);
        }
    }

    private Tensor EncodeSources(PromptTable? prompts)
    {
        if (_packedEncoder is not null)
            return _packedEncoder.Encode(prompts, _inputs);
        _encoder!.EncodeBatch(prompts, _inputs); // one of the two is there
        return _encoder.EncoderOutput;
    }

    private void DropUnwanted()
    {
        int next = 0;
        for (int i = 0; i < _rows.Count; i++)
        {
            if (!_rows[i].Request.IsWanted)
                continue;
            (_rows[next], _from[next]) = (_rows[i], _from[i]);
            // Before a text's first step its row is its request's, and stands in place: only the rows that are gone move the tokens.
            next++;
        }
        if (next == _rows.Count)
            return;
        if (next == 0)
        {
            Keep(0);
            return;
        }
        int[] kept = [.. _from.Take(next).Distinct()];
        int[] tokens = Array.ConvertAll(kept, old => _tokens[old]);
        _decoder.Reorder(kept);
        tokens.CopyTo(_tokens, 0);
        for (int i = 0; i < next; i++)
            _from[i] = Array.IndexOf(kept, _from[i]);
        _rows.RemoveRange(next, _rows.Count - next);
        _from.RemoveRange(next, _from.Count - next);
    }

    // Rows from `count` on are gone; the decoder's rows become the texts, one each.
    private void Keep(int count)
    {
        _rows.RemoveRange(count, _rows.Count - count);
        _from.RemoveRange(count, _from.Count - count);
        if (count == 0)
        {
            _decoder.Clear();
            return;
        }
        SingleSearch.Rearrange(_decoder, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_from));
    }

    // The next token, or -1 where the text has ended.
    private int Advance(Row row, ReadOnlySpan<float> logits, int decoderRow)
    {
        // Given up during this very step, by a sibling's failure.
        if (!row.Request.IsWanted)
            return -1;
        GenerationOptions options = row.Request.Options;
        int step = row.Sequence.Ids.Count;
        int token;
        try
        {
            token = row.Sequence.Advance(logits, options, Sampler(options), _config.EosTokenId, decoderRow, step, row.Request.ReadsLogProbs);
        }
        catch (InvalidDataException e)
        {
            // This prompt's numbers are broken, and nobody else's.
            row.Request.Failed(e);
            return -1;
        }
        if (token == _config.EosTokenId)
        {
            row.Request.Finished(row.Sample, FinishReason.EndOfSequence);
            return -1;
        }
        Span<TokenLogProb> top = stackalloc TokenLogProb[Math.Min(row.Request.TopLogProbs, MaxTop)];
        Top(logits, row.Sequence.Norm, top);
        if (!row.Request.Read(row.Sample, new TokenLogProb(token, (float)(logits[token] - row.Sequence.Norm)), top))
            return -1;
        if (step + 1 < options.MaxLength)
            return token;
        row.Request.Finished(row.Sample, FinishReason.MaxLength);
        return -1;
    }

    private const int MaxTop = 64;

    private TokenSampler? Sampler(GenerationOptions options)
    {
        if (!options.DoSample)
            return null;
        _sampler ??= new TokenSampler(options, _config.VocabSize);
        _sampler.Use(options);
        return _sampler;
    }

    // Insertion: few are wanted of many, and most of the many stop at the first comparison.
    private static void Top(ReadOnlySpan<float> logits, double norm, Span<TokenLogProb> top)
    {
        int count = 0;
        for (int v = 0; v < logits.Length && top.Length > 0; v++)
        {
            float logProb = (float)(logits[v] - norm);
            if (count == top.Length && logProb <= top[^1].LogProb)
                continue;
            int at = count < top.Length ? count++ : count - 1;
            for (; at > 0 && top[at - 1].LogProb < logProb; at--)
                top[at] = top[at - 1];
            top[at] = new TokenLogProb(v, logProb);
        }
    }

    private static void Grow(ref int[] array, int length)
    {
        if (array.Length < length)
            Array.Resize(ref array, Math.Max(length, 2 * array.Length));
    }
}
