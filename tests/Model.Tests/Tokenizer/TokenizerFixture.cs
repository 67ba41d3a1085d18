// Where the tokenizer's reference files lie, and small vocabularies written by the tests themselves.
using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using IptNative.Model.Tokenizer;

namespace IptNative.Model.Tests.Tokenizer;

internal sealed record GoldenLine(string Text, int[] Ids, string[] Pieces, string Decoded);

internal static class TokenizerFixture
{
    private static readonly Lazy<T5Tokenizer> LazyT5 = new(() => T5Tokenizer.Load(T5ModelPath));
    private static readonly Lazy<GoldenLine[]> LazyGolden = new(ReadGolden);

    public static string Folder { get; } = Path.Combine(Root(), "tests", "Goldens", "tokenizer");

    public static string T5ModelPath => Path.Combine(Folder, "t5_spiece.model");

    public static string T5JsonPath => Path.Combine(Folder, "t5-small_tokenizer.json");

    public static T5Tokenizer T5 => LazyT5.Value;

    public static GoldenLine[] Golden => LazyGolden.Value;

    /// <summary>A new folder that the test deletes with <see cref="Directory.Delete(string, bool)"/>.</summary>
    public static string NewFolder() => Directory.CreateTempSubdirectory("iptnative-tokenizer-").FullName;

    /// <summary>Writes a SentencePiece model of the given pieces.</summary>
    public static byte[] WriteModel(IEnumerable<(string Piece, float Score, int Type)> pieces, bool byteFallback = false, int modelType = 1, byte[]? charsMap = null, bool dummyPrefix = true, bool removeSpaces = true, bool suffix = false)
    {
        List<byte> model = [];
        foreach ((string piece, float score, int type) in pieces)
        {
            byte[] bits = new byte[4];
            BinaryPrimitives.WriteSingleLittleEndian(bits, score);
            Field(model, 1, [.. Message(1, Encoding.UTF8.GetBytes(piece)), 0x15, .. bits, 0x18, (byte)type]);
        }

        Field(model, 2, [0x18, (byte)modelType, 0xC0, 0x01, (byte)(suffix ? 1 : 0), 0x98, 0x02, (byte)(byteFallback ? 1 : 0)]);
        Field(model, 3, [.. Message(2, charsMap ?? []), 0x18, (byte)(dummyPrefix ? 1 : 0), 0x20, (byte)(removeSpaces ? 1 : 0)]);
        return [.. model];
    }

    /// <summary>pad, eos, unk, then the given normal pieces.</summary>
    public static (string Piece, float Score, int Type)[] Pieces(params (string Piece, float Score)[] normal) =>
        [("<pad>", 0, 3), ("</s>", 0, 3), ("<unk>", 0, 2), .. normal.Select(p => (p.Piece, p.Score, 1))];

    /// <summary>Loads a model from bytes, through a file.</summary>
    public static T5Tokenizer Load(byte[] model, string name = "test.model")
    {
        string folder = NewFolder();
        try
        {
            string path = Path.Combine(folder, name);
            File.WriteAllBytes(path, model);
            return T5Tokenizer.Load(path);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    public static byte[] Message(int field, byte[] value)
    {
        List<byte> bytes = [];
        Field(bytes, field, value);
        return [.. bytes];
    }

    private static void Field(List<byte> target, int field, byte[] value)
    {
        target.Add((byte)((field << 3) | 2));
        for (uint length = (uint)value.Length; ; length >>= 7)
        {
            if (length < 0x80)
            {
                target.Add((byte)length);
                break;
            }

            target.Add((byte)(length | 0x80));
        }

        target.AddRange(value);
    }

    private static GoldenLine[] ReadGolden() =>
        [.. File.ReadLines(Path.Combine(Folder, "t5_spiece.golden.jsonl")).Select(line => JsonSerializer.Deserialize<GoldenLine>(line, JsonSerializerOptions.Web)!)];

    private static string Root()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "IptNative.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new DirectoryNotFoundException($"{AppContext.BaseDirectory}: looking for IptNative.sln above it, found none. Run the tests inside the repository.");
    }
}
