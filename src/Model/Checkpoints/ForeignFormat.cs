// Recognises files that are often put where a checkpoint is expected, and says what to do with them.
namespace IptNative.Model.Checkpoints;

/// <summary>Files that are no checkpoint, by their first bytes.</summary>
internal static class ForeignFormat
{
    private const string Convert =
        "Convert it once with PyTorch 1.6 or newer, python -c \"import torch; torch.save(torch.load('old.bin', map_location='cpu'), 'pytorch_model.bin')\", or save it as safetensors.";

    // The magic number 0x1950a86a20f9469cfc6c as PyTorch before 1.6 pickled it: PROTO 2, LONG1 of 10 bytes.
    private static ReadOnlySpan<byte> LegacyMagic => [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];

    /// <summary>Refuses an empty file and the text that git-lfs leaves where the file itself was not fetched.</summary>
    public static void RefusePointer(MappedFile map)
    {
        if (map.Length == 0)
            throw new InvalidDataException($"{map.Path}: opening a weight file; found an empty file. Copy or download it again.");
        if (map.Prefix(0, 64).StartsWith("version https://git-lfs"u8))
            throw new InvalidDataException($"{map.Path}: opening a weight file; found a git-lfs pointer, expected the weights. Run 'git lfs pull' in that folder, or download the file.");
    }

    /// <summary>Names what was found where a zip of PyTorch was expected.</summary>
    public static InvalidDataException NotAZip(MappedFile map)
    {
        ReadOnlySpan<byte> start = map.Prefix(0, 512);
        if (start.StartsWith(LegacyMagic))
            return new($"{map.Path}: opening a PyTorch file; found the format of PyTorch before 1.6 (a bare pickle with a magic number), expected a zip. {Convert}");
        if (start.Length >= 262 && start.Slice(257, 5).SequenceEqual("ustar"u8))
            return new($"{map.Path}: opening a PyTorch file; found a tar archive, the format of PyTorch before 0.1.10, expected a zip. {Convert}");
        if (start.Length >= 2 && start[0] == 0x80 && start[1] is >= 1 and <= 5)
            return new($"{map.Path}: opening a PyTorch file; found a bare pickle, expected a zip. Bare pickles are not read, they can run programs. {Convert}");
        if (start.StartsWith((ReadOnlySpan<byte>)[0x89, (byte)'H', (byte)'D', (byte)'F']))
            return new($"{map.Path}: opening a PyTorch file; found HDF5, TensorFlow's format. Use the PyTorch or safetensors weights of this checkpoint.");
        return new($"{map.Path}: opening a PyTorch file; found no zip directory in {map.Length} bytes, expected the zip that torch.save writes. The file is truncated or of another format: copy or download it again.");
    }
}
