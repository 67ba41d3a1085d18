// The one door to checkpoints of every format. Deliberately not: any format itself.
using IptNative.Model.Config;
using IptNative.Model.Onnx;

namespace IptNative.Model.Checkpoints;

/// <summary>How a checkpoint is opened.</summary>
public sealed record CheckpointOpenOptions
{
    /// <summary>Search all weights for NaN and infinity (true). Costs one pass over the bytes, which the first forward pass then need not fetch.</summary>
    public bool CheckFinite { get; init; } = true;

    /// <summary>Compare the bytes with the check sums that .bin files and packages carry (false). Checkpoints of up to 64 MiB always are; an export always does.</summary>
    public bool VerifyChecksums { get; init; }

    /// <summary>Give each weight's pages back when it has been looked at (false): for weights that will be streamed.</summary>
    public bool ReleasePages { get; init; }

    /// <summary>A configuration to use in place of the checkpoint's own; not for packages and ONNX files. Null for its own.</summary>
    public string? ConfigPath { get; init; }

    /// <summary>Where environment variables come from.</summary>
    internal Func<string, string?> Environment { get; init; } = System.Environment.GetEnvironmentVariable;
}

public abstract partial class Checkpoint
{
    // Hashing so much takes well under a tenth of a second, which nobody waits for; larger checkpoints would pay seconds for every start.
    private const long AlwaysVerifiedBytes = 64 << 20;

    /// <summary>Opens a checkpoint of any format that is read.</summary>
    /// <param name="path">
    /// A folder (searched for package.json, model.safetensors, its index, pytorch_model.bin, its index, encoder_model.onnx, in this order);
    /// a file (.safetensors, .bin, .pt, .pth, .index.json, .onnx) with config.json beside it or in the folder above;
    /// or a Hub name (<c>google/t5-base-lm-adapt</c>, with <c>@revision</c> where wanted) that is in the local Hugging Face cache.
    /// </param>
    /// <param name="options">Null for the defaults.</param>
    /// <returns>The checkpoint; dispose it.</returns>
    /// <exception cref="InvalidDataException">What is there is damaged, of another architecture or format, or contradicts its configuration.</exception>
    /// <exception cref="IOException">There is no such file, folder or cached name (<see cref="FileNotFoundException"/>), or it cannot be read.</exception>
    public static Checkpoint Open(string path, CheckpointOpenOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        options ??= new();
        LocatedCheckpoint located = new CheckpointLocator(new HubCache(options.Environment)).Locate(path);
        Checkpoint checkpoint;
        if (located.Kind == LocatedCheckpoint.Format.Onnx)
        {
            checkpoint = options.ConfigPath is null ? OnnxCheckpoints.Open(located.Path)
                : throw new ArgumentException($"{path}: a configuration of its own cannot be given to a package or an ONNX file.", nameof(options));
        }
        else
        {
            string config = options.ConfigPath ?? CheckpointLocator.Config(located.Folder);
            checkpoint = HfCheckpoint.Open(path, located.Path, T5Config.Load(config), config);
        }
        try
        {
            if (options.VerifyChecksums || checkpoint.Files.Sum(f => new FileInfo(f).Length) <= AlwaysVerifiedBytes)
                checkpoint.VerifyChecksums();
            if (options.CheckFinite)
                checkpoint.CheckFinite(options.ReleasePages);
            return checkpoint;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>The folder that a path or Hub name means: where its tokenizer lies.</summary>
    /// <param name="path">As for <see cref="Open"/>.</param>
    /// <returns>An existing folder.</returns>
    /// <exception cref="InvalidDataException">There is no checkpoint.</exception>
    /// <exception cref="IOException">There is no such file, folder or cached name.</exception>
    public static string FolderOf(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return new CheckpointLocator(new HubCache(Environment.GetEnvironmentVariable)).Locate(path).Folder;
    }
}
