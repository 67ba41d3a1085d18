// Reads SentencePiece's precompiled character map. Deliberately not: whitespace rules (TextNormalizer) and building such maps.
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace IptNative.Model.Tokenizer;

/// <summary>Longest-prefix replacement rules: a Darts-clone double array followed by NUL-terminated replacements.</summary>
/// <remarks>
/// Layout    u32 bytes of trie; the trie's u32 units; the replacements.
/// Unit      bits 0-7 label, bit 8 has a value, bit 9 widens the offset by 8 bits, bits 10-30 offset, bit 31 marks a value unit.
/// Checked   every reachable unit once at load: offsets and values inside the blob, no cycles. A look-up then needs no trust in the file.
/// Source    sentencepiece normalizer.cc DecodePrecompiledCharsMap and NormalizePrefix; darts.h DoubleArrayUnit.
/// </remarks>
internal sealed class CharsMap
{
    // The longest key of NFKC is under 40 bytes and the longest replacement 33 (U+FDFA). The limits only stop a damaged file from costing time or memory without bound.
    private const int MaxKeyBytes = 1024;
    private const int MaxReplacementBytes = 1024;

    private readonly uint[] _units;
    private readonly byte[] _replacements;

    /// <summary>Reads and checks a map.</summary>
    /// <param name="blob">The bytes of precompiled_charsmap; not empty.</param>
    /// <param name="source">File name for messages.</param>
    /// <exception cref="InvalidDataException">The map is damaged.</exception>
    public CharsMap(ReadOnlySpan<byte> blob, string source)
    {
        if (blob.Length < 4)
            throw Invalid(source, $"it has {blob.Length} bytes, at least 4 are expected");
        uint trieBytes = BinaryPrimitives.ReadUInt32LittleEndian(blob);
        if (trieBytes == 0 || trieBytes % 4 != 0 || trieBytes > blob.Length - 4)
            throw Invalid(source, $"its trie claims {trieBytes} bytes, expected a multiple of 4 between 4 and {blob.Length - 4}");

        _units = MemoryMarshal.Cast<byte, uint>(blob.Slice(4, (int)trieBytes)).ToArray();
        if (!BitConverter.IsLittleEndian)
            BinaryPrimitives.ReverseEndianness(_units, _units);
        _replacements = blob[(4 + (int)trieBytes)..].ToArray();
        Check(source);
    }

    /// <summary>Finds the longest rule that applies at the start of the text.</summary>
    /// <param name="text">UTF-8, possibly malformed.</param>
    /// <param name="replacement">What to write instead; may be empty.</param>
    /// <returns>Bytes of text that the rule replaces; 0 where no rule applies.</returns>
    public int LongestPrefix(ReadOnlySpan<byte> text, out ReadOnlySpan<byte> replacement)
    {
        uint[] units = _units;
        int longest = 0, value = 0;
        uint node = Offset(units[0]);
        for (int i = 0; i < text.Length; i++)
        {
            node ^= text[i];
            if (node == 0 || node >= (uint)units.Length) // No rule leads back to the root.
                break;
            uint unit = units[node];
            if ((unit & 0x8000_00FF) != text[i])
                break;
            node ^= Offset(unit);
            if ((unit & 0x100) != 0)
            {
                longest = i + 1;
                value = (int)(units[node] & 0x7FFF_FFFF);
            }
        }

        replacement = longest == 0 ? default : Replacement(value);
        return longest;
    }

    /// <summary>True where a byte under 0x80, followed by another such byte or nothing, stays as it is: no rule changes it and none begins with it and an ASCII byte.</summary>
    public bool KeepsAscii(byte first)
    {
        if (LongestPrefix([first], out ReadOnlySpan<byte> replacement) != 0 && !(replacement.Length == 1 && replacement[0] == first))
            return false;
        uint node = Offset(_units[0]) ^ first;
        if (node >= (uint)_units.Length || (_units[node] & 0x8000_00FF) != first)
            return true;
        node ^= Offset(_units[node]);
        for (uint label = 0; label < 0x80; label++)
        {
            if ((node ^ label) < (uint)_units.Length && (_units[node ^ label] & 0x8000_00FF) == label)
                return false;
        }

        return true;
    }

    private static uint Offset(uint unit) => (unit >> 10) << (int)((unit & 0x200) >> 6);

    private ReadOnlySpan<byte> Replacement(int start)
    {
        ReadOnlySpan<byte> rest = _replacements.AsSpan(start);
        return rest[..rest.IndexOf((byte)0)];
    }

    // Every unit has one possible base (its index ^ its label), so the children of a node are the units listed under the node's base.
    private void Check(string source)
    {
        int[] firstChild = new int[_units.Length];
        int[] sibling = new int[_units.Length];
        for (int i = 1; i < _units.Length; i++)
        {
            uint label = _units[i] & 0x8000_00FF;
            uint parentBase = (uint)i ^ label;
            if (label > 0xFF || parentBase >= (uint)_units.Length)
                continue;
            sibling[i] = firstChild[parentBase];
            firstChild[parentBase] = i;
        }

        int[] height = new int[_units.Length]; // 0 not seen, -1 on the path, otherwise steps to the deepest leaf below, plus 1.
        Stack<(int Node, int Child)> path = new();
        path.Push((0, FirstChild(0, firstChild, source)));
        height[0] = -1;
        while (path.TryPop(out (int Node, int Child) top))
        {
            int child = top.Child;
            if (child == 0)
            {
                int tallest = 0;
                for (int c = firstChild[top.Node ^ (int)Offset(_units[top.Node])]; c != 0; c = sibling[c])
                    tallest = Math.Max(tallest, height[c]);
                height[top.Node] = tallest + 1;
                if (tallest > MaxKeyBytes)
                    throw Invalid(source, $"a rule is longer than {MaxKeyBytes} bytes");
                continue;
            }

            path.Push((top.Node, sibling[child]));
            if (height[child] < 0)
                throw Invalid(source, $"its trie runs in a circle at unit {child}");
            if (height[child] > 0)
                continue;
            height[child] = -1;
            path.Push((child, FirstChild(child, firstChild, source)));
        }
    }

    private int FirstChild(int node, int[] firstChild, string source)
    {
        uint unit = _units[node];
        uint childBase = (uint)node ^ Offset(unit);
        if (childBase >= (uint)_units.Length)
            throw Invalid(source, $"unit {node} of its trie points at unit {childBase}, there are {_units.Length}");
        if (node != 0 && (unit & 0x100) != 0)
        {
            uint value = _units[childBase] & 0x7FFF_FFFF;
            if (value >= (uint)_replacements.Length)
                throw Invalid(source, $"unit {node} of its trie points at replacement byte {value}, there are {_replacements.Length}");
            ReadOnlySpan<byte> rest = _replacements.AsSpan((int)value);
            if (rest[..Math.Min(rest.Length, MaxReplacementBytes)].IndexOf((byte)0) < 0)
                throw Invalid(source, $"the replacement at byte {value} does not end within {MaxReplacementBytes} bytes");
        }

        return firstChild[childBase];
    }

    private static InvalidDataException Invalid(string source, string found) =>
        new($"{source}: reading the normaliser's character map (precompiled_charsmap): {found}. The file is damaged: copy it again from the checkpoint's source.");
}
