// package.json: where a package came from, what type each tensor has, and what its files should be. Reading and writing of that file only.
using System.Reflection;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace IptNative.Model.Onnx.Package;

/// <summary>A file's size and checksum.</summary>
/// <param name="Bytes">Its length.</param>
/// <param name="Sha256">Lower-case hexadecimal.</param>
internal sealed record PackageFile(long Bytes, string Sha256);

/// <summary>Where the weights came from.</summary>
/// <param name="Name">The folder's or Hub's name; never a path, which would tell about the exporter's machine.</param>
/// <param name="Files">The weight files by name.</param>
internal sealed record PackageSource(string Name, SortedDictionary<string, PackageFile> Files);

/// <summary>The contents of package.json.</summary>
internal sealed record PackageManifest
{
    /// <summary>The manifest's name in a package.</summary>
    public const string FileName = "package.json";

    /// <summary>The graph's name in a package.</summary>
    public const string ModelFile = "model.onnx";

    /// <summary>The weights' name in a package.</summary>
    public const string DataFile = "model.onnx_data";

    /// <summary>The newest version that this program reads. Raised when an older program would misread a package.</summary>
    public const int CurrentVersion = 2;

    /// <summary>The version that quantised tensors came with; packages without any are readable by programs of version 1 and say so.</summary>
    public const int QuantisedVersion = 2;

    private const string FormatName = "iptnative-package";

    // Far above any manifest (a T5-11B has some 600 tensors), far below what could hurt.
    private const long MaxBytes = 16 << 20;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        NewLine = "\n",
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Says that this is a package of ours.</summary>
    [JsonPropertyOrder(0)]
    public string Format { get; init; } = FormatName;

    /// <summary>See <see cref="CurrentVersion"/>.</summary>
    [JsonPropertyOrder(1)]
    public int FormatVersion { get; init; } = 1;

    /// <summary>The program that wrote it, with its version.</summary>
    [JsonPropertyOrder(2)]
    public string Tool { get; init; } = $"iptnative {typeof(PackageManifest).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]}";

    /// <summary>Where the weights came from.</summary>
    [JsonPropertyOrder(3)]
    public required PackageSource Source { get; init; }

    /// <summary>The element type asked for at export: f32, bf16, f16, int8 or int4.</summary>
    [JsonPropertyOrder(4)]
    [JsonPropertyName("dtype")]
    public required string DTypeName { get; init; }

    /// <summary>Every file of the package but this one.</summary>
    [JsonPropertyOrder(5)]
    public required SortedDictionary<string, PackageFile> Files { get; init; }

    /// <summary>Element type of each tensor, by HF name: norms and position biases keep f32 in a smaller package.</summary>
    [JsonPropertyOrder(6)]
    public required Dictionary<string, string> Tensors { get; init; }

    /// <summary>Reads and checks a package's manifest.</summary>
    /// <param name="dir">The package.</param>
    /// <returns>The manifest.</returns>
    /// <exception cref="InvalidDataException">It is damaged, not ours, or of a newer version.</exception>
    public static PackageManifest Load(string dir)
    {
        string path = Path.Combine(dir, FileName);
        long bytes = new FileInfo(path).Length;
        if (bytes > MaxBytes)
            throw new InvalidDataException($"{path}: reading the package's manifest; found {bytes} bytes, expected at most {MaxBytes}. Export the package again.");
        byte[] text = File.ReadAllBytes(path);
        try
        {
            // The version is looked at before the rest: a newer package may be laid out in another way.
            using (JsonDocument document = JsonDocument.Parse(text))
            {
                if (document.RootElement.ValueKind != JsonValueKind.Object
                    || !document.RootElement.TryGetProperty("format", out JsonElement format) || format.ValueKind != JsonValueKind.String || format.GetString() != FormatName
                    || !document.RootElement.TryGetProperty("format_version", out JsonElement number) || !number.TryGetInt32(out int version) || version < 1)
                    throw new InvalidDataException($"{path}: reading the package's manifest; expected \"format\": \"{FormatName}\" and a \"format_version\". This is no package of iptnative's; make one with: iptnative export --checkpoint DIR --out DIR.");
                if (version > CurrentVersion)
                    throw new InvalidDataException($"{path}: the package has format version {version}, this program reads up to {CurrentVersion}. Update iptnative, or export the checkpoint again with this one.");
            }
            PackageManifest manifest = JsonSerializer.Deserialize<PackageManifest>(text, Json) ?? throw new JsonException("null");
            foreach (string name in manifest.Files.Keys)
            {
                if (name.Length == 0 || name is "." or ".." || name.IndexOfAny(['/', '\\', ':', '\0']) >= 0)
                    throw new InvalidDataException($"{path}: found the file name '{name}', expected a plain name. The package is not to be trusted; export it again.");
            }
            return manifest;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path}: reading the package's manifest; found broken JSON ({e.Message}). Export the package again.", e);
        }
    }

    /// <summary>The manifest as the file's bytes: the same for the same package, with no date in it.</summary>
    /// <returns>UTF-8.</returns>
    public byte[] ToBytes() => [.. JsonSerializer.SerializeToUtf8Bytes(this, Json), (byte)'\n'];
}
