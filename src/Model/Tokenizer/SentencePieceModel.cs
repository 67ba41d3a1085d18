// Reads spiece.model: the ModelProto that SentencePiece writes. Deliberately not: a protobuf library, and no model types but Unigram.
using IptNative.Model.Protobuf;

namespace IptNative.Model.Tokenizer;

/// <summary>What a SentencePiece model file says, checked.</summary>
/// <remarks>Source: sentencepiece_model.proto; field numbers and defaults are that file's.</remarks>
internal sealed class SentencePieceModel
{
    // mT5's model, the largest of the family, has 4.3 MB. The limit keeps a weight file given by mistake from being read into memory.
    private const long MaxFileBytes = 256L << 20;

    private unsafe SentencePieceModel(string path, byte[] data)
    {
        PieceTable.Builder pieces = new(path);
        bool addDummyPrefix = true, removeExtraWhitespaces = true, escapeWhitespaces = true, suffix = false, byteFallback = false;
        long modelType = 1;
        fixed (byte* start = data)
        {
            ReadOnlySpan<byte> charsMap = default;
            ProtoReader model = new(new((nint)start, data.Length), path, (nint)start, "SentencePiece model");
            while (model.Next(out int field, out _))
            {
                switch (field)
                {
                    case 1:
                        ReadPiece(model.Message(), pieces);
                        break;
                    case 2:
                        ReadTrainer(model.Message(), ref modelType, ref suffix, ref byteFallback);
                        break;
                    case 3:
                        ReadNormalizer(model.Message(), ref charsMap, ref addDummyPrefix, ref removeExtraWhitespaces, ref escapeWhitespaces);
                        break;
                    case 5:
                        RefuseRules(path, model.Message());
                        break;
                    default:
                        model.Skip();
                        break;
                }
            }
            CharsMap = charsMap.IsEmpty ? null : new CharsMap(charsMap, path);
        }

        if (modelType != 1)
        {
            string name = modelType switch { 2 => "BPE", 3 => "WORD", 4 => "CHAR", _ => $"number {modelType}" };
            throw new InvalidDataException($"{path}: reading the SentencePiece model: found model type {name}, expected UNIGRAM, the type of every T5. Give the spiece.model of a T5 checkpoint.");
        }

        Pieces = pieces.Build(byteFallback);
        StripsSpace = addDummyPrefix || removeExtraWhitespaces;
        StripsAllSpace = removeExtraWhitespaces;
        Rules = new WhitespaceRules
        {
            Prefix = addDummyPrefix ? PrefixRule.Always : PrefixRule.Never,
            StripLeading = removeExtraWhitespaces,
            Collapse = removeExtraWhitespaces,
            StripTrailing = removeExtraWhitespaces,
            Escape = escapeWhitespaces,
            Suffix = suffix,
        };
    }

    public PieceTable Pieces { get; }

    public CharsMap? CharsMap { get; }

    public WhitespaceRules Rules { get; }

    /// <summary>Decoding drops a ▁ at the beginning.</summary>
    public bool StripsSpace { get; }

    /// <summary>Decoding drops every ▁ at the beginning.</summary>
    public bool StripsAllSpace { get; }

    /// <summary>What an unknown piece decodes to.</summary>
    public string UnkSurface { get; private set; } = " \u2047 ";

    public string EosPiece { get; private set; } = "</s>";

    public string PadPiece { get; private set; } = "<pad>";

    /// <summary>Reads and checks a model file.</summary>
    /// <exception cref="InvalidDataException">The file is damaged, or no Unigram model.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static SentencePieceModel Load(string path) => new(path, ReadBounded(path));

    /// <summary>Reads a whole file whose size must be a vocabulary's.</summary>
    internal static byte[] ReadBounded(string path)
    {
        long length = new FileInfo(path).Length;
        return length <= MaxFileBytes
            ? File.ReadAllBytes(path)
            : throw new InvalidDataException($"{path}: reading the vocabulary: found {length} bytes, expected at most {MaxFileBytes}. Give spiece.model or tokenizer.json, not a weight file.");
    }

    private static void ReadPiece(ProtoReader fields, PieceTable.Builder pieces)
    {
        ReadOnlySpan<byte> piece = default;
        float score = 0;
        long type = (long)PieceType.Normal;
        while (fields.Next(out int field, out _))
        {
            switch (field)
            {
                case 1:
                    piece = fields.Span();
                    break;
                case 2:
                    score = fields.Single();
                    break;
                case 3:
                    type = fields.Int64();
                    break;
                default:
                    fields.Skip();
                    break;
            }
        }

        pieces.Add(piece, score, (PieceType)Math.Clamp(type, 0, 7));
    }

    private void ReadTrainer(ProtoReader fields, ref long modelType, ref bool suffix, ref bool byteFallback)
    {
        while (fields.Next(out int field, out _))
        {
            switch (field)
            {
                case 3:
                    modelType = fields.Int64();
                    break;
                case 24:
                    suffix = fields.Int64() != 0;
                    break;
                case 35:
                    byteFallback = fields.Int64() != 0;
                    break;
                case 44:
                    UnkSurface = fields.Text();
                    break;
                case 47:
                    EosPiece = fields.Text();
                    break;
                case 48:
                    PadPiece = fields.Text();
                    break;
                default:
                    fields.Skip();
                    break;
            }
        }
    }

    private static void ReadNormalizer(ProtoReader fields, ref ReadOnlySpan<byte> charsMap, ref bool addDummyPrefix, ref bool removeExtraWhitespaces, ref bool escapeWhitespaces)
    {
        while (fields.Next(out int field, out _))
        {
            switch (field)
            {
                case 2:
                    charsMap = fields.Span();
                    break;
                case 3:
                    addDummyPrefix = fields.Int64() != 0;
                    break;
                case 4:
                    removeExtraWhitespaces = fields.Int64() != 0;
                    break;
                case 5:
                    escapeWhitespaces = fields.Int64() != 0;
                    break;
                default:
                    fields.Skip();
                    break;
            }
        }
    }

    private static void RefuseRules(string path, ProtoReader denormalizer)
    {
        while (denormalizer.Next(out int field, out _))
        {
            if (field != 2)
                denormalizer.Skip();
            else if (denormalizer.Bytes().Length != 0)
                throw new InvalidDataException($"{path}: reading the SentencePiece model: found a denormalizer with rules of its own, expected none (T5's family has none). Use a vocabulary trained without --denormalization_rule_tsv.");
        }
    }
}
