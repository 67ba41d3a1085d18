// What a training step will hold, counted from the same sizes that the code allocates by, before anything is allocated. Deliberately not the choice of
// settings (MemoryPlanner.cs).
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Tuning.Memory;

/// <summary>Settings and sizes of a step.</summary>
public sealed record MemoryRequest
{
    /// <summary>The weights.</summary>
    public required StoredWeights Weights { get; init; }

    /// <summary>Where they are.</summary>
    public WeightResidence Residence { get; init; } = WeightResidence.Mapped;

    /// <summary>Who computes the forward pass.</summary>
    public ForwardEngine Forward { get; init; } = ForwardEngine.Native;

    /// <summary>What is kept of it.</summary>
    public Activations Activations { get; init; } = Activations.Full;

    /// <summary>Type of what is kept inside sublayers.</summary>
    public DType Tape { get; init; } = DType.F32;

    /// <summary>Whether the tape is in a file, a block of it in memory.</summary>
    public bool Spilled { get; init; }

    /// <summary>Source positions of a batch whose answers are generated while the step's memory is held; 0: none are.</summary>
    public long AnswerPositions { get; init; }

    /// <summary>Texts of such a batch.</summary>
    public int AnswerTexts { get; init; }

    /// <summary>Beams of each.</summary>
    public int AnswerBeams { get; init; } = 1;

    /// <summary>Tokens of the longest answer.</summary>
    public int AnswerTokens { get; init; }

    /// <summary>Examples computed at once.</summary>
    public int Examples { get; init; } = 8;

    /// <summary>Source positions of the longest example, prompt included.</summary>
    public int Source { get; init; } = 228;

    /// <summary>Target tokens of the longest example.</summary>
    public int Target { get; init; } = 8;

    /// <summary>Source and target tokens looked up in the embedding table during the run; long.MaxValue: any.</summary>
    public long LookedUp { get; init; } = long.MaxValue;

    /// <summary>Tuned prompt rows of all runs.</summary>
    public long PromptRows { get; init; } = 100;

    /// <summary>CPU threads.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;

    /// <summary>The device that holds weights, tape and gradients in memory of its own, cuda:0; then only that memory is counted. Null: the host.</summary>
    public string? Device { get; init; }

    /// <summary>Precision of the products, which decides what a GPU's library needs copies of.</summary>
    public ComputeType Compute { get; init; } = ComputeType.F32;

    /// <summary>.NET, the program's code and what is already held: tokenizer, data.</summary>
    public long RuntimeBytes { get; init; } = MemoryPlan.Runtime;
}

/// <summary>One row of the table.</summary>
/// <param name="What">Whose memory.</param>
/// <param name="Bytes">How much at the peak.</param>
/// <param name="Detail">Of what.</param>
public readonly record struct MemoryLine(string What, long Bytes, string Detail);

/// <summary>A step's peak memory by purpose.</summary>
/// <remarks>
/// Counted as VmHWM counts: mapped file pages are memory. Sources of the numbers: BlockScratch, NativeForward, LossHead, T5LayerAttention, T5LayerFF.
/// Test: the prediction is within 10 % of what `bench step` measured.
/// </remarks>
public sealed class MemoryPlan
{
    /// <summary>.NET and the program's code after a step: measured 60 to 66 MB on Linux x64.</summary>
    public const long Runtime = 64_000_000;

    // A GPU's compiled kernels and cuBLAS' workspace: room left for them, not measured.
    private const long DeviceCode = 256_000_000;

    // ONNX Runtime's library, its two sessions and their graphs.
    private const long RuntimeLibrary = 45_000_000;

    // What its CUDA provider loads of its code, and its cuBLAS and cuDNN: room left for them, not measured.
    private const long DeviceProvider = 400_000_000;

    // A page fault on a cached file maps the pages around it too.
    private const long FaultBytes = 64 << 10;

    // Steps that the decoder's cache has room for at first; it doubles from there.
    private const long FirstSteps = 16;

    private MemoryPlan(MemoryRequest request, IReadOnlyList<MemoryLine> lines)
    {
        Request = request;
        Lines = lines;
        foreach (MemoryLine line in lines)
            Total += line.Bytes;
    }

    /// <summary>What was planned.</summary>
    public MemoryRequest Request { get; }

    /// <summary>The table.</summary>
    public IReadOnlyList<MemoryLine> Lines { get; }

    /// <summary>Peak bytes.</summary>
    public long Total { get; }

    /// <summary>Counts a step.</summary>
    /// <param name="request">Settings and sizes.</param>
    /// <returns>The plan.</returns>
    public static MemoryPlan Of(MemoryRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        bool host = request.Device is null;
        var lines = new List<MemoryLine> { host ? WeightLine(request) : new("weights", request.Weights.Bytes, $"copied to {request.Device}: {request.Weights.Formats}") };
        if (host && request.Forward == ForwardEngine.Ort && request.Weights.ExpandedBytes > 0)
            lines.Add(new("float32 copies", request.Weights.ExpandedBytes, "of narrower weights, which ONNX Runtime cannot read"));
        T5Config c = request.Weights.Config;
        long rows = (long)request.Examples * request.Source, targets = (long)request.Examples * request.Target;
        (long tape, long file) = Tape(c, request, rows, targets);
        string kept = $"{request.Activations.ToString().ToLowerInvariant()}, {rows} source and {targets} target rows, {(request.Tape == DType.F32 ? "f32" : $"f32, {request.Tape.Name()} inside sublayers")}";
        lines.Add(new("activation tape", tape, file == 0 ? kept : $"a block of {ByteSize.Text(file)} on disk: {kept}"));
        bool answersHere = request.AnswerPositions > 0;
        lines.Add(new("scratch", 4 * Scratch(request, answersHere ? Math.Max(rows, request.AnswerPositions) : rows, targets, answersHere), "one sublayer's projections, and the residual stream's gradients"));
        long logits = Math.Clamp(LossChunk.Bytes / (4L * c.VocabSize), 1, targets) * c.VocabSize;
        lines.Add(new("logits", 4 * logits, $"a chunk of {logits / c.VocabSize} of {targets} rows"));
        if (request.Forward == ForwardEngine.Ort)
            lines.Add(host ? new("ONNX Runtime", RuntimeLibrary + 4 * Arena(c, request.Examples, request.Source, rows), "library and arena")
                : new("ONNX Runtime", DeviceProvider + 4 * DeviceArena(request, rows, targets), "arenas of both sessions, room to take padding out, and an allowance for the provider's code"));
        if (request.AnswerPositions > 0)
            lines.Add(AnswerLine(c, request));
        lines.Add(new("prompts", 4 * 4 * request.PromptRows * c.DModel, "values, gradients, optimizer, best so far"));
        if (host)
        {
            lines.Add(new("program", request.RuntimeBytes + Workers(request), ".NET, code, packing memory"));
        }
        else
        {
            lines.Add(new("kernels' scratch", KernelScratch(request, rows, targets), "attention's context and sums, or a product's operand in another type"));
            lines.Add(new("device code", DeviceCode, "compiled kernels and cuBLAS: an allowance"));
        }
        return new MemoryPlan(request, lines);
    }

    /// <summary>Counts generating answers alone, on a device with memory of its own.</summary>
    /// <param name="request">The device, the weights, and the answers' numbers; the rest is not looked at.</param>
    /// <returns>The plan.</returns>
    public static MemoryPlan OfAnswers(MemoryRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        T5Config c = request.Weights.Config;
        long positions = request.AnswerPositions;
        // Norm, its inverse RMS, q, k, v, both gates, two sublayers' outputs; a step's rows are far fewer.
        long scratch = positions * (3L * c.DModel + 1 + 3 * c.InnerDim + (c.IsGated ? 2L : 1) * c.DFf);
        return new MemoryPlan(request,
            [
                new("weights", request.Weights.Bytes, $"copied to {request.Device}: {request.Weights.Formats}"),
                new("scratch", 4 * scratch, "one sublayer's projections"),
                AnswerLine(c, request),
                new("prompts", 4 * request.PromptRows * c.DModel, "values"),
                new("kernels' scratch", KernelScratch(request with { Examples = request.AnswerTexts }, positions, 0), "attention's sums, or a product's operand in another type"),
                new("device code", DeviceCode, "compiled kernels and cuBLAS: an allowance"),
            ]);
    }

    /// <summary>How long a step takes at least on cores of a given rate; what is computed again is counted, overhead is not.</summary>
    /// <param name="gflopPerSecond">10^9 operations a second that products reach.</param>
    /// <param name="examples">Examples of the whole step, micro-batches together.</param>
    /// <returns>Seconds.</returns>
    public double Seconds(double gflopPerSecond, int examples)
    {
        var flops = new T5Flops(Request.Weights.Config, examples, Request.Source, Request.Target);
        return (flops.Forward + flops.InputGradient + Recomputed(Request.Activations) * flops.Forward) / gflopPerSecond * 1e-9;
    }

    /// <summary>The forward pass' share that the backward sweep computes again.</summary>
    /// <param name="activations">What is kept.</param>
    /// <returns>0 to 1.</returns>
    public static double Recomputed(Activations activations) => activations switch
    {
        // Blocks: all but the last sublayer's output; sublayers: q, k, v and the two wi, that is 5 of 7 products.
        Activations.Blocks => 0.8,
        Activations.Sublayers => 0.65,
        _ => 0,
    };

    private static MemoryLine AnswerLine(T5Config c, MemoryRequest request) =>
        new("answers", 4 * Answers(c, request), $"{request.AnswerTexts} texts at once, {request.AnswerPositions} source positions: keys and values, hidden states, logits");

    private static MemoryLine WeightLine(MemoryRequest request)
    {
        StoredWeights w = request.Weights;
        // Divided, not multiplied: any number of look-ups may be asked for.
        long looked = request.LookedUp >= w.EmbeddingBytes / FaultBytes ? w.EmbeddingBytes : request.LookedUp * FaultBytes;
        string formats = w.Formats;
        return request.Residence switch
        {
            WeightResidence.Streamed => new("weights", Math.Max(w.LargestBytes, looked), $"streamed: the largest block of {ByteSize.Text(w.Bytes)} ({formats})"),
            WeightResidence.Mapped when !w.Config.TieWordEmbeddings => new("weights", w.Bytes - w.EmbeddingBytes + looked, $"mapped: {formats}"),
            _ => new("weights", w.Bytes, $"{request.Residence.ToString().ToLowerInvariant()}: {formats}"),
        };
    }

    // Bytes in memory and in the file. As NativeForward.StackMemory lays them out; ONNX Runtime's outputs have the same sizes.
    private static (long Memory, long File) Tape(T5Config c, MemoryRequest request, long rows, long targets)
    {
        long d = c.DModel, inner = c.InnerDim, ff = (c.IsGated ? 2L : 1) * c.DFf;
        // The last outputs and the encoder's normalised one: always in memory.
        long ends = 4 * (2 * rows + targets) * d;
        bool blocks = request.Activations == Activations.Blocks;
        long encoder = 4 * (blocks ? 1 : 2) * rows * d, decoder = 4 * (blocks ? 1 : 3) * targets * d;
        if (request.Activations == Activations.Full)
        {
            encoder += request.Tape.ByteLength(rows * (3 * inner + ff));
            decoder += request.Tape.ByteLength(targets * (4 * inner + ff) + 2 * rows * inner);
        }
        long all = c.NumLayers * encoder + c.NumDecoderLayers * decoder;
        // A block, and the input of the next.
        return request.Spilled ? (ends + Math.Max(encoder + 4 * rows * d, decoder + 4 * targets * d), all) : (ends + all, 0);
    }

    // Floats. Each slot grows to the larger of the two stacks' needs.
    private static long Scratch(MemoryRequest request, long rows, long targets, bool answers)
    {
        T5Config c = request.Weights.Config;
        long d = c.DModel, most = Math.Max(rows, targets), inner = c.InnerDim;
        // Norm, inverse RMS, context, one feed-forward gradient; both streams' gradients.
        long floats = most * (d + 1 + inner + c.DFf) + (rows + targets) * d;
        // A tape of another type is a rounded copy of what lies here.
        if (answers || request.Activations != Activations.Full || request.Tape != DType.F32)
            floats += most * (3 * inner + (c.IsGated ? 2L : 1) * c.DFf);
        if (answers)
            floats += 2 * most * d;
        else if (request.Activations == Activations.Blocks)
            floats += most * d + targets * d;
        return floats;
    }

    // Bytes. As PackedAttention's and cuBLAS' halves take them, one at a time: sums, context and dq; or the operand that has to change its type.
    private static long KernelScratch(MemoryRequest request, long rows, long targets)
    {
        T5Config c = request.Weights.Config;
        long most = Math.Max(rows, targets), attention = 4 * 2 * most * (c.NumHeads + c.InnerDim);
        long activations = 2 * most * Math.Max(c.DFf, Math.Max(c.InnerDim, c.DModel)), matrix = 4L * c.VocabSize * c.DModel;
        return Math.Max(attention, request.Compute == ComputeType.BF16 ? activations : request.Weights.ExpandedBytes > 0 && !request.Weights.IsQuantised ? matrix : 0);
    }

    // Floats. Padded inputs, the whole position bias, attention's probabilities twice, and one sublayer in flight.
    private static long Arena(T5Config c, int examples, int source, long rows)
    {
        long bias = (long)c.NumHeads * source * source;
        return (1 + 2L * examples) * bias + rows * (2L * c.DModel + 3L * c.InnerDim + 2L * c.DFf);
    }

    // Floats. Each session has an arena of its own there; weights stored narrow are widened one after the other, of which two live at once; a padded tensor is packed in scratch.
    private static long DeviceArena(MemoryRequest request, long rows, long targets)
    {
        T5Config c = request.Weights.Config;
        long t = request.Target, inner = c.InnerDim, widest = Math.Max(c.DModel, Math.Max(inner, c.DFf));
        long decoder = (long)c.NumHeads * t * (t + 2L * request.Examples * Math.Max(t, request.Source)) + targets * (2L * c.DModel + 3 * inner + 2L * c.DFf)
            + (request.Activations == Activations.Full ? 0 : 2 * rows * inner);
        long widened = request.Weights.ExpandedBytes > 0 ? 2L * c.DModel * Math.Max(inner, c.DFf) : 0;
        return Arena(c, request.Examples, request.Source, rows) + decoder + widened + Math.Max(rows, targets) * widest;
    }

    // Floats. SlotDecoder's keys and values of both attentions (room for them is rounded up by a quarter or a vector; self-attention's smaller blocks of earlier steps
    // are kept for the next texts), InputAssembler's embeddings, the encoder's input and outputs, logits, and a small decoder's packed copy.
    private static long Answers(T5Config c, MemoryRequest request)
    {
        long steps = FirstSteps;
        while (steps < request.AnswerTokens)
            steps *= 2;
        long cross = 2L * c.NumDecoderLayers * (request.AnswerPositions * 5 / 4 + 16L * request.AnswerTexts) * c.InnerDim;
        long rows = (long)request.AnswerTexts * request.AnswerBeams, self = 4L * c.NumDecoderLayers * rows * steps * c.InnerDim;
        return cross + self + 5 * request.AnswerPositions * c.DModel + rows * c.VocabSize + (request.Device is null ? FrozenT5.StepCopyBytes(c) / sizeof(float) : 0);
    }

    // Bytes. Packed operands (CpuScratch), and attention's working memory of one head (WorkerMemory).
    private static long Workers(MemoryRequest request)
    {
        long keys = Math.Max(request.Source, request.Target), k = request.Weights.Config.DKv;
        // On bf16 tiles four rows of 1,600 bytes a key whatever the head's width, a panel of scores and of their gradient, and v^T (PackedAttention.MachineCode.cs).
        long attention = request.Compute == ComputeType.BF16 ? 200_000 + 6_800 * keys : 4 * (3 * keys * k + 128 * keys);
        return 2_500_000 + request.Threads * (900_000 + attention);
    }
}
