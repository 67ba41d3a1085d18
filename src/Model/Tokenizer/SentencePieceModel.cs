// Reads spiece.model: the ModelProto that SentencePiece writes. Deliberately not: a protobuf library, and no model types but Unigram.
using System.Buffers.Binary;
using System.Text;

namespace IptNative.Model.Tokenizer;

/// <summary>What a SentencePiece model file says, checked.</summary>
/// <remarks>Source: sentencepiece_model.proto; field numbers and defaults are that file's.</remarks>
internal sealed class SentencePieceModel
{
    // mT5's model, the largest of the family, has 4.3 MB. The limit keeps a weight file given by mistake from being read into memory.
    private const long MaxFileBytes = 256L << 20;

    private SentencePieceModel(string path, ReadOnlySpan<byte> data)
    {
        PieceTable.Builder pieces = new(path);
        ReadOnlySpan<byte> charsMap = default;
        bool addDummyPrefix = true, removeExtraWhitespaces = true, escapeWhitespaces = true, suffix = false, byteFallback = false;
        long modelType = 1;

        Fields model = new(data, path, 0);
        while (model.Next())
        {
            switch (model.Number)
            {
                case 1:
                    ReadPiece(model.Message(), pieces);
                    break;
                case 2:
                    Fields trainer = model.Message();
                    while (trainer.Next())
                    {
                        switch (trainer.Number)
                        {
                            case 3:
                                modelType = trainer.Integer();
                                break;
                            case 24:
                                suffix = trainer.Integer() != 0;
                                break;
                            case 35:
                                byteFallback = trainer.Integer() != 0;
                                break;
                            case 44:
                                UnkSurface = trainer.Text();
                                break;
                            case 47:
                                EosPiece = trainer.Text();
                                break;
                            case 48:
                                PadPiece = trainer.Text();
                                break;
                        }
                    }

                    break;
                case 3:
                    Fields normalizer = model.Message();
                    while (normalizer.Next())
                    {
                        switch (normalizer.Number)
                        {
                            case 2:
                                charsMap = normalizer.Bytes();
                                break;
                            case 3:
                                addDummyPrefix = normalizer.Integer() != 0;
                                break;
                            case 4:
                                removeExtraWhitespaces = normalizer.Integer() != 0;
                                break;
                            case 5:
                                escapeWhitespaces = normalizer.Integer() != 0;
                                break;
                        }
                    }

                    break;
                case 5:
                    Fields denormalizer = model.Message();
                    while (denormalizer.Next())
                    {
                        if (denormalizer.Number == 2 && denormalizer.Bytes().Length != 0)
                            throw new InvalidDataException($"{path}: reading the SentencePiece model: found a denormalizer with rules of its own, expected none (T5's family has none). Use a vocabulary trained without --denormalization_rule_tsv.");
                    }

                    break;
            }
        }

        if (modelType != 1)
        {
            string name = modelType switch { 2 => "BPE", 3 => "WORD", 4 => "CHAR", _ => $"number {modelType}" };
            throw new InvalidDataException($"{path}: reading the SentencePiece model: found model type {name}, expected UNIGRAM, the type of every T5. Give the spiece.model of a T5 checkpoint.");
        }

        Pieces = pieces.Build(byteFallback);
        CharsMap = charsMap.IsEmpty ? null : new CharsMap(charsMap, path);
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
    public string UnkSurface { get; } = " \u2047 ";

    public string EosPiece { get; } = "</s>";

    public string PadPiece { get; } = "<pad>";

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

    private static void ReadPiece(Fields fields, PieceTable.Builder pieces)
    {
        ReadOnlySpan<byte> piece = default;
        float score = 0;
        long type = (long)PieceType.Normal;
        while (fields.Next())
        {
            switch (fields.Number)
            {
                case 1:
                    piece = fields.Bytes();
                    break;
                case 2:
                    score = fields.Single();
                    break;
                case 3:
                    type = fields.Integer();
                    break;
            }
        }

        pieces.Add(piece, score, (PieceType)Math.Clamp(type, 0, 7));
    }

    // Walks the fields of one message; every length is checked against the bytes that are there.
    private ref struct Fields(ReadOnlySpan<byte> data, string path, int fileOffset)
    {
        private readonly ReadOnlySpan<byte> _data = data;
        private int _at;
        private int _wire = -1;

        public int Number { get; private set; }

        public bool Next()
        {
            if (_wire >= 0)
                Skip();
            if (_at == _data.Length)
                return false;
            ulong tag = Varint();
            if (tag >> 3 is 0 or > 536_870_911 || (tag & 7) is not (0 or 1 or 2 or 5))
                throw Bad($"found the tag {tag}, expected a protobuf field");
            Number = (int)(tag >> 3);
            _wire = (int)(tag & 7);
            return true;
        }

        public long Integer()
        {
            Take(0, "an integer");
            return (long)Varint();
        }

        public float Single()
        {
            Take(5, "a float");
            return BinaryPrimitives.ReadSingleLittleEndian(Slice(4));
        }

        public ReadOnlySpan<byte> Bytes()
        {
            Take(2, "bytes");
            ulong length = Varint();
            return length <= (ulong)(_data.Length - _at) ? Slice((int)length) : throw Bad($"found a value of {length} bytes, where {_data.Length - _at} are left");
        }

        public string Text() => Encoding.UTF8.GetString(Bytes());

        public Fields Message()
        {
            ReadOnlySpan<byte> bytes = Bytes();
            return new Fields(bytes, path, fileOffset + _at - bytes.Length);
        }

        private void Take(int wire, string expected)
        {
            if (_wire != wire)
                throw Bad($"found field {Number} in wire type {_wire}, expected {expected}");
            _wire = -1;
        }

        private void Skip()
        {
            switch (_wire)
            {
                case 0:
                    _ = Integer();
                    break;
                case 1:
                    _ = Slice(8);
                    break;
                case 2:
                    _ = Bytes();
                    break;
                default:
                    _ = Slice(4);
                    break;
            }

            _wire = -1;
        }

        private ReadOnlySpan<byte> Slice(int length)
        {
            if (length > _data.Length - _at)
                throw Bad($"the data ends where {length} more byte(s) were expected");
            _at += length;
            return _data.Slice(_at - length, length);
        }

        private ulong Varint()
        {
            ulong value = 0;
            for (int shift = 0; shift < 70; shift += 7)
            {
                byte b = Slice(1)[0];
                value |= (ulong)(b & 0x7F) << shift;
                if (b < 0x80)
                    return value;
            }

            throw Bad("found an integer of more than ten bytes");
        }

        private readonly InvalidDataException Bad(string found) =>
            new($"{path}: reading the SentencePiece model at byte {fileOffset + _at}: {found}. The file is truncated, damaged or no SentencePiece model: copy it again from the checkpoint's source.");
    }
}
