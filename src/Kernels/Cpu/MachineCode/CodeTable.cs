// Frozen machine code as it is handed to the loader: bytes, entry points and the checksum that guards them. Deliberately not: the bytes (BF16Table.cs).
namespace IptNative.Kernels.Cpu;

/// <summary>Code of the four bf16 tiles.</summary>
/// <param name="Code">Position-independent x86-64.</param>
/// <param name="Entries">Where the 12x32, 12x16, 4x32 and 4x16 tiles begin.</param>
/// <param name="Checksum"><see cref="Fnv1a"/> of the code when it was frozen.</param>
internal sealed record CodeTable(byte[] Code, int[] Entries, ulong Checksum)
{
    /// <summary>The product's own.</summary>
    public static CodeTable Frozen() => new(BF16Table.Code.ToArray(), BF16Table.Entries.ToArray(), BF16Table.Checksum);

    /// <summary>FNV-1a, 64 bits: finds damage, not malice. No cryptographic hash, because loading that library costs more than all else here.</summary>
    public static ulong Fnv1a(ReadOnlySpan<byte> bytes)
    {
        ulong hash = 0xcbf29ce484222325;
        foreach (byte b in bytes)
            hash = (hash ^ b) * 0x100000001b3;
        return hash;
    }
}
