// Everything that a training needs to go on bit for bit, in one safetensors file: tensors as they are, counters as JSON in its header.
// Deliberately not: what the tensors mean; the trainer names them.
using System.Text.Json;
using System.Text.Json.Serialization;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

namespace IptNative.Tuning.Runs;

/// <summary>A tensor of a training state.</summary>
/// <param name="Name">Unique: "sst2-seed42.prompt", "sst2-seed42.prompt.exp_avg_sq".</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Values">Row-major f32; read while the state is saved.</param>
public readonly record struct SavedTensor(string Name, TensorShape Shape, ReadOnlyMemory<float> Values);

/// <summary>The counters of one of the runs side by side.</summary>
public sealed record RowState
{
    /// <summary>The run, by <see cref="RunRow.Name"/>.</summary>
    public required string Run { get; init; }

    /// <summary>Optimizer steps done.</summary>
    public long OptimizerSteps { get; init; }

    /// <summary>Best score; NaN before the first evaluation.</summary>
    public double BestScore { get; init; } = double.NaN;

    /// <summary>Step of the best score; 0 before the first evaluation.</summary>
    public long BestStep { get; init; }

    /// <summary>Each metric of the best evaluation.</summary>
    public IReadOnlyList<MetricScore> BestScores { get; init; } = [];

    /// <summary>Evaluations since the best one: what patience counts.</summary>
    public int EvaluationsSinceBest { get; init; }

    /// <summary>Why it has ended; null while it trains.</summary>
    public StopReason? Stopped { get; init; }

    /// <summary>Its last step where it has ended.</summary>
    public long StoppedAt { get; init; }

    /// <summary>What was not finite, in words; null otherwise.</summary>
    public string? StopDetail { get; init; }
}

/// <summary>A training between two steps.</summary>
public sealed class TrainingState
{
    internal const string FileName = "state.safetensors";
    private const string StateKey = "iptnative_state";
    private const int Format = 1;

    private static readonly JsonSerializerOptions Json = new()
    {
        // Scores may be NaN; everything else round-trips by .NET's shortest exact digits.
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
    };

    private readonly Dictionary<string, SavedTensor> _tensors = new(StringComparer.Ordinal);
    private string _path = "";

    /// <summary>Steps done.</summary>
    public long Step { get; init; }

    /// <summary>Wall time of the training so far, earlier processes included.</summary>
    public double Seconds { get; init; }

    /// <summary>The runs side by side, in their order.</summary>
    public IReadOnlyList<RowState> Rows { get; init; } = [];

    /// <summary>Whatever else a method must remember (a generator's state, a line search): text by name.</summary>
    public IReadOnlyDictionary<string, string> Extra { get; init; } = new Dictionary<string, string>();

    /// <summary>The tensors by name.</summary>
    public IReadOnlyDictionary<string, SavedTensor> Tensors => _tensors;

    internal long LogOffset { get; private set; }

    internal IReadOnlyList<long> BoardOffsets { get; private set; } = [];

    /// <summary>Adds a tensor to be saved.</summary>
    /// <param name="name">Unique.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="values">Row-major f32; kept, and read when the state is saved.</param>
    /// <exception cref="ArgumentException">The name is taken, or the number of values is not the shape's.</exception>
    public void Add(string name, TensorShape shape, ReadOnlyMemory<float> values)
    {
        if (values.Length != shape.Elements)
            throw new ArgumentException($"training state: tensor '{name}' has {values.Length} values, shape {shape} expects {shape.Elements}.", nameof(values));
        if (!_tensors.TryAdd(name, new SavedTensor(name, shape, values)))
            throw new ArgumentException($"training state: there are two tensors '{name}', expected unique names.", nameof(name));
    }

    /// <summary>Copies a tensor of a state that was read.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="shape">The shape that it must have.</param>
    /// <param name="target">As many floats as the shape has.</param>
    /// <exception cref="InvalidDataException">There is no such tensor, or it has another shape.</exception>
    public void CopyTo(string name, TensorShape shape, Span<float> target)
    {
        if (!_tensors.TryGetValue(name, out SavedTensor tensor))
            throw new InvalidDataException($"{_path}: tensor '{name}' is missing; the nearest name is '{NearestName.Of(_tensors.Keys, name)}'. The checkpoint is of another version or damaged: start the run in another folder.");
        if (tensor.Shape != shape)
            throw new InvalidDataException($"{_path}: tensor '{name}' has shape {tensor.Shape}, this run expects {shape}. The checkpoint is of another run or damaged: start the run in another folder.");
        tensor.Values.Span.CopyTo(target);
    }

    // The file's bytes; through a stream, so that a test can let the disk run full.
    internal void WriteTo(Stream stream, string identity, long logOffset, IEnumerable<long> boardOffsets)
    {
        var header = new Header(Format, identity, Step, Seconds, Rows, new SortedDictionary<string, string>(Extra.ToDictionary(), StringComparer.Ordinal), logOffset, [.. boardOffsets]);
        SafetensorsWriter writer = new SafetensorsWriter().WithMetadata(StateKey, JsonSerializer.Serialize(header, Json));
        foreach (SavedTensor tensor in _tensors.Values)
            writer.Add(tensor.Name, tensor.Shape, tensor.Values);
        writer.WriteTo(stream);
    }

    /// <summary>Reads a state that <see cref="WriteTo"/> wrote for the same run.</summary>
    /// <exception cref="InvalidDataException">The file is damaged, or belongs to another run.</exception>
    internal static TrainingState Read(string path, string identity, IReadOnlyList<RunRow> rows)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Header header = ReadHeader(file, path);
        if (header.Identity != identity)
            throw new InvalidDataException($"{path}: going on with a run; the checkpoint belongs to the run {Short(header.Identity)}, this folder to {Short(identity)}. It was copied here from another run folder: remove it, or put the right one back.");
        if (!header.Rows.Select(r => r?.Run).SequenceEqual(rows.Select(r => r.Name)))
            throw new InvalidDataException($"{path}: going on with a run; the checkpoint holds the runs {string.Join(", ", header.Rows.Select(r => r?.Run))}, expected {string.Join(", ", rows.Select(r => r.Name))}.");
        if (header.Step < 0 || header.LogOffset < 0 || header.BoardOffsets.Count != rows.Count || header.BoardOffsets.Any(o => o < 0))
            throw new InvalidDataException($"{path}: going on with a run; found step {header.Step}, log offset {header.LogOffset} and {header.BoardOffsets.Count} TensorBoard offsets, expected none below 0 and {rows.Count} of the last. The checkpoint is damaged.");
        var state = new TrainingState
        {
            Step = header.Step,
            Seconds = header.Seconds,
            Rows = header.Rows,
            Extra = header.Extra,
            _path = path,
            LogOffset = header.LogOffset,
            BoardOffsets = header.BoardOffsets,
        };
        foreach (string name in file.Names)
        {
            TensorInfo info = file.Describe(name);
            if (info.DType != DType.F32)
                throw new InvalidDataException($"{path}: tensor '{name}' is {info.TypeName}, expected F32. The file is no checkpoint of a training.");
            state.Add(name, info.Shape, file.ReadFloats(name));
        }
        return state;
    }

    private static Header ReadHeader(SafetensorsFile file, string path)
    {
        if (!file.Metadata.TryGetValue(StateKey, out string? text))
            throw new InvalidDataException($"{path}: going on with a run; the file's header has no '{StateKey}'. It is no checkpoint of a training.");
        try
        {
            Header header = JsonSerializer.Deserialize<Header>(text, Json) ?? throw new JsonException("null");
            return header.Format == Format ? header : throw new JsonException($"format {header.Format}, expected {Format}");
        }
        catch (Exception e) when (e is JsonException or NotSupportedException)
        {
            throw new InvalidDataException($"{path}: going on with a run; its '{StateKey}' cannot be read ({e.Message}). The checkpoint is damaged or of another version of the program.", e);
        }
    }

    private static string Short(string identity) => identity.Length > 12 ? identity[..12] : identity;

    private sealed record Header(
        int Format, string Identity, long Step, double Seconds, IReadOnlyList<RowState> Rows, IReadOnlyDictionary<string, string> Extra, long LogOffset, IReadOnlyList<long> BoardOffsets);
}
