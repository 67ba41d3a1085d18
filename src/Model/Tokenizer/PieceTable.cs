// The pieces of a Unigram vocabulary: bytes, score, kind. Deliberately not: how text is cut into them (UnigramSegmenter), or tokens beyond the model's own (AddedTokens).
using System.Text;
using System.Text.Unicode;

namespace IptNative.Model.Tokenizer;

/// <summary>Kinds of piece; the numbers are those of sentencepiece_model.proto.</summary>
internal enum PieceType
{
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// <summary>An immutable, checked vocabulary; ids are positions.</summary>
/// <remarks>Source: sentencepiece model_interface.cc InitializePieces (the checks) and unigram_model.cc Model::Model (lowest and highest score).</remarks>
internal sealed class PieceTable
{
    // Longer pieces make no sense and would let a hostile file turn segmentation quadratic. SentencePiece's trainer stops at 16 characters by default.
    internal const int MaxPieceBytes = 4096;

    private readonly byte[] _bytes;
    private readonly int[] _starts;
    private readonly string?[] _text;
    private readonly float[] _scores;
    private readonly PieceType[] _types;
    private readonly Dictionary<string, int> _reserved = new(StringComparer.Ordinal);
    private readonly int[] _byteIds = [];
    private readonly short[] _byteValues;

    private PieceTable(string source, byte[] bytes, int[] starts, float[] scores, PieceType[] types, bool byteFallback)
    {
        _bytes = bytes;
        _starts = starts;
        _scores = scores;
        _types = types;
        _text = new string?[scores.Length];
        _byteValues = byteFallback ? new short[scores.Length] : [];
        if (byteFallback)
        {
            _byteIds = new int[256];
            Array.Fill(_byteIds, -1);
        }

        UnkId = -1;
        List<int> segmented = new(scores.Length);
        List<int> userDefined = [];
        for (int id = 0; id < scores.Length; id++)
        {
            switch (types[id])
            {
                case PieceType.Normal:
                    MinScore = Math.Min(MinScore, scores[id]);
                    MaxScore = Math.Max(MaxScore, scores[id]);
                    segmented.Add(id);
                    continue;
                case PieceType.UserDefined:
                    userDefined.Add(id);
                    segmented.Add(id);
                    continue;
                case PieceType.Unused: // Never a result of segmentation; still an id with a name.
                    segmented.Add(id);
                    continue;
                case PieceType.Unknown when UnkId >= 0:
                    throw Invalid(source, $"pieces {UnkId} and {id} are both of type UNKNOWN, exactly one is expected");
                case PieceType.Unknown:
                    UnkId = id;
                    break;
                case PieceType.Byte:
                    AddByte(source, id, byteFallback);
                    break;
            }

            if (!_reserved.TryAdd(IdToPiece(id), id))
                throw Invalid(source, $"piece '{IdToPiece(id)}' has both id {_reserved[IdToPiece(id)]} and id {id}, every piece must be unique");
        }

        if (UnkId < 0)
            throw Invalid(source, "no piece is of type UNKNOWN, exactly one is expected");
        if (byteFallback && Array.IndexOf(_byteIds, -1) is var missing and >= 0)
            throw Invalid(source, $"byte fallback is on, but the piece '<0x{missing:X2}>' is missing");

        Trie = new PieceTrie(this, segmented, (first, second) => throw Invalid(source, $"piece '{IdToPiece(first)}' has both id {first} and id {second}, every piece must be unique"));
        UserDefined = userDefined.Count == 0 ? null : new PieceTrie(this, userDefined, (_, _) => { });
    }

    /// <summary>Number of pieces.</summary>
    public int Count => _scores.Length;

    /// <summary>The one UNKNOWN piece.</summary>
    public int UnkId { get; }

    /// <summary>True where unknown characters are spelled in byte pieces.</summary>
    public bool ByteFallback => _byteIds.Length != 0;

    /// <summary>Lowest score of a NORMAL piece; float.MaxValue where there is none, as in SentencePiece.</summary>
    public float MinScore { get; } = float.MaxValue;

    /// <summary>Highest score of a NORMAL piece, never under the smallest normal float: SentencePiece starts from FLT_MIN, which is positive.</summary>
    public float MaxScore { get; } = 1.17549435e-38f;

    /// <summary>All pieces that text can match (NORMAL, USER_DEFINED, UNUSED).</summary>
    public PieceTrie Trie { get; }

    /// <summary>The user-defined pieces alone, or null: the normaliser leaves them as they are.</summary>
    public PieceTrie? UserDefined { get; }

    public ReadOnlySpan<byte> Bytes(int id) => _bytes.AsSpan(_starts[id].._starts[id + 1]);

    public float Score(int id) => _scores[id];

    public PieceType Type(int id) => _types[id];

    /// <summary>The piece for one byte; only with <see cref="ByteFallback"/>.</summary>
    public int ByteId(byte value) => _byteIds[value];

    /// <summary>The byte that a piece of type BYTE spells.</summary>
    public byte ByteValue(int id) => (byte)_byteValues[id];

    public string IdToPiece(int id) => _text[id] ??= Encoding.UTF8.GetString(Bytes(id));

    /// <summary>Looks a piece up by its text; -1 where there is none.</summary>
    public int PieceToId(string piece) => _reserved.TryGetValue(piece, out int id) ? id : Trie.Exact(Encoding.UTF8.GetBytes(piece));

    private void AddByte(string source, int id, bool byteFallback)
    {
        string piece = IdToPiece(id);
        if (!byteFallback)
            throw Invalid(source, $"piece {id} '{piece}' is of type BYTE although byte_fallback is off");
        if (piece.Length != 6 || !piece.StartsWith("<0x", StringComparison.Ordinal) || piece[5] != '>' || !byte.TryParse(piece.AsSpan(3, 2), System.Globalization.NumberStyles.AllowHexSpecifier, null, out byte value) || piece != $"<0x{value:X2}>")
            throw Invalid(source, $"piece {id} '{piece}' is of type BYTE, expected the form '<0x0A>'");
        _byteIds[value] = id;
        _byteValues[id] = value;
    }

    internal static InvalidDataException Invalid(string source, string found) =>
        new($"{source}: reading the vocabulary: {found}. The file is damaged or not a Unigram vocabulary: copy it again from the checkpoint's source.");

    /// <summary>Collects pieces in the order of their ids.</summary>
    /// <param name="source">File name for messages.</param>
    internal sealed class Builder(string source)
    {
        private readonly List<float> _scores = [];
        private readonly List<PieceType> _types = [];
        private readonly List<int> _starts = [0];
        private readonly System.Buffers.ArrayBufferWriter<byte> _bytes = new();

        public int Count => _scores.Count;

        public void Add(ReadOnlySpan<byte> piece, double score, PieceType type)
        {
            int id = Count;
            if (piece.IsEmpty)
                throw Invalid(source, $"piece {id} is empty");
            if (piece.Length > MaxPieceBytes)
                throw Invalid(source, $"piece {id} has {piece.Length} bytes, at most {MaxPieceBytes} are expected");
            if (!Utf8.IsValid(piece))
                throw Invalid(source, $"piece {id} is not UTF-8");
            if (!float.IsFinite((float)score))
                throw Invalid(source, $"piece {id} '{Encoding.UTF8.GetString(piece)}' has the score {score}, a finite number is expected");
            if (type is < PieceType.Normal or > PieceType.Byte)
                throw Invalid(source, $"piece {id} '{Encoding.UTF8.GetString(piece)}' has the type {(int)type}, 1 to 6 are expected");
            piece.CopyTo(_bytes.GetSpan(piece.Length));
            _bytes.Advance(piece.Length);
            _starts.Add(_bytes.WrittenCount);
            _scores.Add((float)score);
            _types.Add(type);
        }

        public void SetType(int id, PieceType type) => _types[id] = type;

        public PieceTable Build(bool byteFallback) =>
            Count == 0
                ? throw Invalid(source, "it holds no pieces")
                : new PieceTable(source, _bytes.WrittenSpan.ToArray(), [.. _starts], [.. _scores], [.. _types], byteFallback);
    }
}
