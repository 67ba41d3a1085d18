// Damaged and lying vocabulary files: a message, never a crash, a loop or an unbounded allocation.
using System.Buffers.Binary;
using IptNative.Model.Tokenizer;
using Xunit;
using static IptNative.Model.Tests.Tokenizer.TokenizerFixture;

namespace IptNative.Model.Tests.Tokenizer;

public sealed class BadModelTests
{
    [Theory]
    [InlineData(2, "BPE")]
    [InlineData(3, "WORD")]
    [InlineData(4, "CHAR")]
    [InlineData(9, "number 9")]
    public void OtherModelTypesAreRefusedByName(int modelType, string name)
    {
        string message = Fails(WriteModel(Pieces(("a", -1)), modelType: modelType));
        Assert.Contains($"found model type {name}, expected UNIGRAM", message);
        Assert.Contains("test.model", message);
    }

    [Fact]
    public void ContradictoryPiecesAreNamed()
    {
        Assert.Contains("holds no pieces", Fails([]));
        Assert.Contains("no piece is of type UNKNOWN", Fails(WriteModel([("a", -1, 1)])));
        Assert.Contains("0 and 1 are both of type UNKNOWN", Fails(WriteModel([("<unk>", 0, 2), ("<unk2>", 0, 2)])));
        Assert.Contains("'ab' has both id 3 and id 4", Fails(WriteModel(Pieces(("ab", -1), ("ab", -2)))));
        Assert.Contains("'<s>' has both id 3 and id 4", Fails(WriteModel([.. Pieces(), ("<s>", 0, 3), ("<s>", 0, 3)])));
        Assert.Contains("piece 3 is empty", Fails(WriteModel(Pieces(("", -1)))));
        Assert.Contains("'a' has the score NaN", Fails(WriteModel(Pieces(("a", float.NaN)))));
        Assert.Contains("a finite number is expected", Fails(WriteModel(Pieces(("a", float.NegativeInfinity)))));
        Assert.Contains("type 7", Fails(WriteModel([.. Pieces(), ("a", 0, 9)])));
        Assert.Contains("at most 4096", Fails(WriteModel(Pieces((new string('a', 5000), -1)))));
        Assert.Contains("byte_fallback is off", Fails(WriteModel([.. Pieces(), ("<0x00>", 0, 6)])));
        Assert.Contains("'<0x00>' is missing", Fails(WriteModel(Pieces(("a", -1)), byteFallback: true)));
        Assert.Contains("expected the form", Fails(WriteModel([.. Pieces(), ("<0xag>", 0, 6)], byteFallback: true)));
        Assert.Contains("is not UTF-8", Fails(Message(1, Message(1, [0xC3]))));
    }

    [Fact]
    public void LyingLengthsAreNoAllocations()
    {
        // A piece of 2^60 bytes, an endless varint, a group tag, a length of the wrong kind.
        Assert.Contains("found a value of 1152921504606846976 bytes, where 0 are left", Fails([0x0A, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]));
        Assert.Contains("more than 64 bits", Fails([.. Enumerable.Repeat((byte)0xFF, 20)]));
        Assert.Contains("expected a protobuf field", Fails([0x0B]));
        Assert.Contains("expected Bytes", Fails([0x08, 0x01]));
    }

    [Fact]
    public void ATruncatedModelIsRefusedAtEveryLength()
    {
        byte[] model = WriteModel(Pieces(("▁", -1), ("a", -2)), charsMap: Map([('x', "y")]));
        for (int length = 0; length < model.Length; length++)
        {
            // Cut between two fields the rest is a model again; the pieces must then be whole. No other exception passes.
            if (Record.Exception(() => Load(model[..length])) is { } exception)
                Assert.IsType<InvalidDataException>(exception);
        }

        byte[] t5 = File.ReadAllBytes(T5ModelPath);
        Assert.Contains("truncated", Fails(t5[..(t5.Length - 1000)]));
    }

    [Fact]
    public void FlippedBitsNeverCrashOrLoop()
    {
        byte[] model = WriteModel([.. Pieces(("▁", -1), ("a", -2), ("ab", -3), ("é", -4)), ("<sep>", 0, 4)], charsMap: Map([('x', "y"), ('é', "e"), ('z', ""), ('\t', " ")]));
        Random random = new(99);
        for (int i = 0; i < 1500; i++)
        {
            byte[] damaged = [.. model];
            for (int flips = random.Next(1, 4); flips > 0; flips--)
                damaged[random.Next(damaged.Length)] ^= (byte)(1 << random.Next(8));
            Exception? exception = Record.Exception(() =>
            {
                T5Tokenizer tokenizer = Load(damaged);
                tokenizer.Decode(tokenizer.Encode("xab é\tz\0 <sep>q" + new string('\0', 50), false));
            });
            Assert.True(exception is null or InvalidDataException, exception?.ToString());
        }
    }

    [Fact]
    public void ADamagedCharacterMapIsRefused()
    {
        Assert.Contains("at least 4 are expected", FailsWithMap([1, 2, 3]));
        Assert.Contains("claims 400 bytes", FailsWithMap([0x90, 1, 0, 0, 0, 0, 0, 0]));
        Assert.Contains("claims 3 bytes", FailsWithMap([3, 0, 0, 0, 0, 0, 0, 0]));
        Assert.Contains("points at unit", FailsWithMap(Units([0x7FFF_FC00], "y")));

        // 'a' with a value far outside the replacements, and a replacement without an end.
        byte[] map = Map([('a', "y")]);
        Assert.Contains("there are 2", FailsWithMap(WithUnit(map, ValueUnit, 0x8000_1000)));
        Assert.Contains("does not end within", FailsWithMap([.. map[..^1], (byte)'y']));

        // 'a' whose children are reached from the root again: a circle of 'a'.
        Assert.Contains("runs in a circle", FailsWithMap(WithUnit(map, 1 ^ 'a', (uint)'a' | (('a' ^ 0u) << 10))));
    }

    [Fact]
    public void AHandMadeCharacterMapWorks()
    {
        T5Tokenizer tokenizer = Load(WriteModel(Pieces(("▁", -1), ("a", -2), ("y", -2)), charsMap: Map([('x', "yy"), ('z', ""), ('t', " ")])));
        Assert.Equal(["▁", "a", "y", "y", "a", "▁", "a"], tokenizer.EncodeToPieces("zaxaztzta"));
    }

    [Fact]
    public void AHugeFileIsRefusedBeforeItIsRead()
    {
        string folder = NewFolder();
        try
        {
            string path = Path.Combine(folder, "spiece.model");
            using (FileStream file = File.Create(path))
                file.SetLength(300L << 20); // Sparse.
            Assert.Contains("not a weight file", Assert.Throws<InvalidDataException>(() => T5Tokenizer.Load(folder)).Message);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    private static string Fails(byte[] model) => Assert.Throws<InvalidDataException>(() => Load(model)).Message;

    private static string FailsWithMap(byte[] map)
    {
        string message = Fails(WriteModel(Pieces(("a", -1)), charsMap: map));
        Assert.Contains("character map", message);
        return message;
    }

    // In Map, the first node's children begin in the second block; its value unit is the first there.
    private const int ValueUnit = 256;

    // A Darts-clone array for single-character keys: root base 1; each node on the path has a block of its own.
    private static byte[] Map((char Key, string Replacement)[] rules)
    {
        uint[] unused = [.. Enumerable.Repeat(0x8000_0000u, 256)];
        List<uint> units = [.. unused];
        units[0] = 1u << 10;
        string replacements = "";
        Dictionary<string, (int Node, int Base)> nodes = new() { [""] = (0, 1) };
        foreach ((char key, string replacement) in rules)
        {
            string path = "";
            foreach (byte label in System.Text.Encoding.UTF8.GetBytes(key.ToString()))
            {
                int parentBase = nodes[path].Base;
                path += (char)label;
                if (nodes.ContainsKey(path))
                    continue;
                int node = parentBase ^ label;
                int nodeBase = units.Count;
                units.AddRange(unused);
                // The offset is relative to the node by exclusive or.
                units[node] = label | ((uint)(node ^ nodeBase) << 10);
                nodes[path] = (node, nodeBase);
            }

            (int last, int lastBase) = nodes[path];
            units[last] |= 0x100;
            units[lastBase] = 0x8000_0000 | (uint)System.Text.Encoding.UTF8.GetByteCount(replacements);
            replacements += replacement + "\0";
        }

        return Units([.. units], replacements);
    }

    private static byte[] Units(uint[] units, string replacements)
    {
        byte[] map = new byte[4 + (4 * units.Length)];
        BinaryPrimitives.WriteUInt32LittleEndian(map, (uint)(4 * units.Length));
        for (int i = 0; i < units.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(map.AsSpan(4 + (4 * i)), units[i]);
        return [.. map, .. System.Text.Encoding.UTF8.GetBytes(replacements)];
    }

    private static byte[] WithUnit(byte[] map, int index, uint unit)
    {
        byte[] changed = [.. map];
        BinaryPrimitives.WriteUInt32LittleEndian(changed.AsSpan(4 + (4 * index)), unit);
        return changed;
    }
}
