// The reusable working memory and result of one encoding. Deliberately not thread-safe: one per thread.
namespace IptNative.Model.Tokenizer;

/// <summary>Holds the ids of the text encoded last, and keeps its memory for the next one, so that encoding allocates nothing once it has grown.</summary>
public sealed class TokenBuffer
{
    /// <summary>The best way to reach one byte position of the normalised text.</summary>
    internal struct BestPath
    {
        public float Score;
        public int Start;
        public int Id;
    }

    internal byte[] Utf8 = new byte[256];
    internal byte[] Text = new byte[1024];
    internal int TextLength;
    internal BestPath[] Best = new BestPath[256];

    private int[] _ids = new int[64];
    private (int Start, int Length)[] _surfaces = new (int, int)[64];

    /// <summary>Number of ids.</summary>
    public int Count { get; private set; }

    /// <summary>The ids; valid until the buffer is used again.</summary>
    public ReadOnlySpan<int> Ids => _ids.AsSpan(0, Count);

    /// <summary>Bytes of working memory held, for callers that decide whether to keep a buffer.</summary>
    public long HeldBytes => Utf8.Length + Text.Length + (12L * (Best.Length + _ids.Length));

    internal void Clear() => Count = TextLength = 0;

    internal void EnsureText(int length)
    {
        if (Text.Length < length)
            Array.Resize(ref Text, (int)Math.Min(Array.MaxLength, Math.Max(length, Text.Length * 2L)));
    }

    /// <summary>Adds a token.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="start">For an unknown piece, where its surface begins in <see cref="Text"/>.</param>
    /// <param name="length">For an unknown piece, bytes of its surface; 0 for every other.</param>
    internal void Add(int id, int start = 0, int length = 0)
    {
        if (Count == _ids.Length)
        {
            Array.Resize(ref _ids, Count * 2);
            Array.Resize(ref _surfaces, Count * 2);
        }

        _ids[Count] = id;
        _surfaces[Count++] = (start, length);
    }

    /// <summary>Puts the tokens from an index on into reverse order: the best path is found from its end.</summary>
    internal void ReverseFrom(int index)
    {
        _ids.AsSpan(index..Count).Reverse();
        _surfaces.AsSpan(index..Count).Reverse();
    }

    /// <summary>The normalised text that an unknown piece stands for; empty for every other.</summary>
    internal ReadOnlySpan<byte> Surface(int index) => Text.AsSpan(_surfaces[index].Start, _surfaces[index].Length);

    /// <summary>Widens the surface of the last token to the left: runs of unknown characters are one piece.</summary>
    internal void WidenLast(int start)
    {
        ref (int Start, int Length) last = ref _surfaces[Count - 1];
        last = (start, last.Start + last.Length - start);
    }
}
