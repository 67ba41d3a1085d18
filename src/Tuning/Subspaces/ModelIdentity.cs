// Which frozen model a subspace belongs to. Deliberately not a check sum of the files: a copy of the same weights in another format is the same model.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Tuning.Subspaces;

/// <summary>A frozen model's name and what tells it from others.</summary>
/// <param name="Name">For people: the folder's name.</param>
/// <param name="Fingerprint">sha256 over names, shapes and samples of the weights; lower-case hexadecimal.</param>
public sealed record ModelIdentity(string Name, string Fingerprint)
{
    // The first elements of every tensor: models that were trained apart differ in all of them, and nothing large is read.
    private const int Sample = 64;

    /// <summary>The identity of an opened checkpoint.</summary>
    /// <param name="checkpoint">Any format.</param>
    /// <returns>Equal for f32 and bf16 copies of one model; f16 and quantised copies round otherwise and are models of their own.</returns>
    public static ModelIdentity Of(Checkpoint checkpoint)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string name in T5Parameters.Of(checkpoint.Config).Select(p => p.Name).Order(StringComparer.Ordinal))
        {
            Weight weight = checkpoint[name];
            hash.AppendData(Encoding.UTF8.GetBytes($"{name}{weight.Shape}"));
            hash.AppendData(Bytes(weight));
        }
        string folder = Path.GetFileName(Path.TrimEndingDirectorySeparator(checkpoint.Location));
        return new ModelIdentity(folder.Length > 0 ? folder : checkpoint.Location, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    // Floats as bf16, rounded to even as every converter does; other types as they are.
    private static byte[] Bytes(Weight weight)
    {
        long elements = Math.Min(Sample, weight.Shape.Elements);
        byte[] raw = new byte[weight.DType.ByteLength(elements)];
        Marshal.Copy(weight.Address, raw, 0, raw.Length);
        if (weight.DType != DType.F32)
            return raw;
        byte[] rounded = new byte[2 * elements];
        for (int i = 0; i < elements; i++)
        {
            uint bits = BinaryPrimitives.ReadUInt32LittleEndian(raw.AsSpan(4 * i));
            BinaryPrimitives.WriteUInt16LittleEndian(rounded.AsSpan(2 * i), (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16));
        }
        return rounded;
    }
}
