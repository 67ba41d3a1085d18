// Everything needed to use a subspace again, as its file carries it in JSON. Deliberately not: its numbers (SubspaceFile).
using System.Reflection;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace IptNative.Tuning.Subspaces;

/// <summary>What a subspace is, was made from and is for.</summary>
public sealed record SubspaceHeader
{
    /// <summary>The newest version that this program reads. Raised when an older program would misread a file.</summary>
    public const int CurrentVersion = 1;

    private const string FormatName = "iptnative-subspace";

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter() },
    };

    /// <summary>Says that this is a subspace of ours.</summary>
    [JsonPropertyOrder(-3)]
    public string Format { get; init; } = FormatName;

    /// <summary>See <see cref="CurrentVersion"/>.</summary>
    [JsonPropertyOrder(-2)]
    public int FormatVersion { get; init; } = CurrentVersion;

    /// <summary>The program that wrote it, with its version.</summary>
    [JsonPropertyOrder(-1)]
    public string Tool { get; init; } = $"iptnative {typeof(SubspaceHeader).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]}";

    /// <summary>How z becomes a prompt.</summary>
    public required SubspaceKind Kind { get; init; }

    /// <summary>The frozen model; null where a foreign file does not say.</summary>
    public ModelIdentity? Model { get; init; }

    /// <summary>n, virtual tokens of a prompt, 1 or more.</summary>
    public required int PromptLength { get; init; }

    /// <summary>D, the model's width, 1 or more.</summary>
    public required int DModel { get; init; }

    /// <summary>d_I, 1 to n*D.</summary>
    public required int IntrinsicDim { get; init; }

    /// <summary>d'_I, the inner size of Proj_b; 0 for kinds without one.</summary>
    public int InnerDim { get; init; }

    /// <summary>Activation behind Proj.</summary>
    public SubspaceActivation ProjActivation { get; init; } = SubspaceActivation.Identity;

    /// <summary>Activation between Proj_b's layers.</summary>
    public SubspaceActivation InnerActivation { get; init; } = SubspaceActivation.Tanh;

    /// <summary>Proj has a bias.</summary>
    public bool ProjBias { get; init; } = true;

    /// <summary>Proj_b's first layer has a bias.</summary>
    public bool InnerBias { get; init; } = true;

    /// <summary>Proj_b's last layer has a bias; a linear subspace has an offset.</summary>
    public bool OuterBias { get; init; } = true;

    /// <summary>The scale of prompts.</summary>
    public PromptStandardisation Standardisation { get; init; } = PromptStandardisation.None;

    /// <summary>Tasks whose prompts it was found from; empty for a random one.</summary>
    public IReadOnlyList<string> SourceTasks { get; init; } = [];

    /// <summary>Every seed by what it drew: init, batches, ...</summary>
    public IReadOnlyDictionary<string, long> Seeds { get; init; } = new SortedDictionary<string, long>(StringComparer.Ordinal);

    /// <summary>False for a random subspace.</summary>
    public bool Trained { get; init; }

    /// <summary>n*D.</summary>
    [JsonIgnore]
    public int PromptElements => checked(PromptLength * DModel);

    /// <summary>Throws where the numbers make no subspace.</summary>
    /// <exception cref="ArgumentException">A number is out of its range; the message names it.</exception>
    public void Validate()
    {
        Require(PromptLength >= 1, "prompt_length", PromptLength, "1 or more");
        Require(DModel >= 1, "d_model", DModel, "1 or more");
        long elements = (long)PromptLength * DModel;
        Require(elements <= int.MaxValue, "prompt_length * d_model", elements, $"at most {int.MaxValue}");
        Require(IntrinsicDim >= 1 && IntrinsicDim <= elements, "intrinsic_dim", IntrinsicDim, $"1 to prompt_length * d_model = {PromptLength} * {DModel} = {elements}");
        if (Kind == SubspaceKind.Autoencoder)
            Require(InnerDim >= 1, "inner_dim", InnerDim, "1 or more");
        else
            Require(InnerDim == 0, "inner_dim", InnerDim, $"0, a {Name(Kind)} subspace has no inner layer");
        Require(Enum.IsDefined(Kind) && Enum.IsDefined(ProjActivation) && Enum.IsDefined(InnerActivation) && Enum.IsDefined(Standardisation.Kind), "an enumeration", (long)Kind, "a known name");
        Standardisation.Validate("subspace");
        if (SourceTasks.Distinct(StringComparer.Ordinal).Count() != SourceTasks.Count)
            throw new ArgumentException($"subspace: source_tasks names a task twice ({string.Join(", ", SourceTasks)}), expected each once.");
    }

    /// <summary>Throws unless the subspace is for this model and prompt length.</summary>
    /// <param name="path">Where it came from, for the message.</param>
    /// <param name="model">The frozen model of the run.</param>
    /// <param name="dModel">Its width.</param>
    /// <param name="promptLength">Virtual tokens of the run.</param>
    /// <exception cref="InvalidDataException">It is for another model, width or length.</exception>
    public void RequireFits(string path, ModelIdentity model, int dModel, int promptLength)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (promptLength != PromptLength)
            throw new InvalidDataException($"{path}: the subspace maps to prompts of {PromptLength} tokens, the run's prompts have {promptLength}. Set prompt_length to {PromptLength}, or find a subspace for {promptLength}.");
        if (dModel != DModel)
            throw new InvalidDataException($"{path}: the subspace{(Model is null ? "" : $" of model '{Model.Name}'")} has d_model={DModel}, model '{model.Name}' has d_model={dModel}. A subspace fits only the checkpoint whose prompts it was found from.");
        if (Model is not null && Model.Fingerprint != model.Fingerprint)
        {
            throw new InvalidDataException(
                $"{path}: the subspace is of model '{Model.Name}' (fingerprint {Short(Model)}), the run uses '{model.Name}' (fingerprint {Short(model)}). A subspace fits only the checkpoint whose prompts it was found from.");
        }
    }

    /// <summary>The header in one line of JSON.</summary>
    /// <returns>What <see cref="Parse"/> reads.</returns>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>Reads a header.</summary>
    /// <param name="json">What <see cref="ToJson"/> wrote.</param>
    /// <param name="path">The file, for messages.</param>
    /// <returns>A valid header.</returns>
    /// <exception cref="InvalidDataException">The text is broken, of another format or newer, or its numbers make no subspace.</exception>
    public static SubspaceHeader Parse(string json, string path)
    {
        SubspaceHeader header;
        try
        {
            // The version first: a newer file may have members that this program does not know.
            using var document = JsonDocument.Parse(json);
            if (document.RootElement.ValueKind != JsonValueKind.Object || !document.RootElement.TryGetProperty("format", out JsonElement format) || format.ValueKind != JsonValueKind.String || format.GetString() != FormatName)
                throw new InvalidDataException($"{path}: reading a subspace; its header's format is not '{FormatName}'.");
            if (document.RootElement.TryGetProperty("format_version", out JsonElement version) && version.TryGetInt32(out int number) && number > CurrentVersion)
                throw new InvalidDataException($"{path}: reading a subspace; its format_version is {number}, this program reads up to {CurrentVersion}. Use a newer iptnative.");
            header = document.Deserialize<SubspaceHeader>(Json)!; // an object is never null
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path}: reading a subspace; its header is broken ({e.Message}). Make the subspace again.", e);
        }
        try
        {
            header.Validate();
        }
        catch (ArgumentException e)
        {
            throw new InvalidDataException($"{path}: {e.Message}", e);
        }
        return header;
    }

    internal static string Name(SubspaceKind kind) => JsonSerializer.Serialize(kind, Json).Trim('"');

    private static string Short(ModelIdentity model) => model.Fingerprint.Length > 12 ? model.Fingerprint[..12] : model.Fingerprint;

    private static void Require(bool good, string name, long found, string expected)
    {
        if (!good)
            throw new ArgumentException($"subspace: {name} is {found}, expected {expected}.");
    }
}
