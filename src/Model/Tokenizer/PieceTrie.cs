// A double-array trie over a vocabulary's pieces, built at load. Deliberately not: the reader of SentencePiece's own compiled trie (CharsMap), whose format is given.
namespace IptNative.Model.Tokenizer;

/// <summary>Byte trie with one memory access per step: node, check, id and score lie in one 16-byte unit.</summary>
/// <remarks>The child of node n for byte c is unit <c>Base[n] ^ c</c>, valid where its Parent is n. Bases and labels stay within aligned blocks of 256 units, so the index is always inside the array.</remarks>
internal sealed class PieceTrie
{
    internal struct Unit
    {
        public int Base;
        public int Parent;
        public int Id;

        /// <summary>The piece's score; NaN where the segmenter must look the piece up (USER_DEFINED, UNUSED).</summary>
        public float Score;
    }

    private const int Block = 256;

    // Free slots tried before a new block is opened. Single-child nodes, most of a vocabulary's, fit the first slot: the array stays over 90 % full.
    private const int MaxTries = 48;

    private Unit[] _units = [];
    private int[] _next = [];
    private int[] _previous = [];
    private int _free = -1;
    private int _used;

    /// <summary>Builds the trie.</summary>
    /// <param name="pieces">The vocabulary.</param>
    /// <param name="ids">Pieces to include.</param>
    /// <param name="onDuplicate">Called with two ids of the same text; the first stays.</param>
    public PieceTrie(PieceTable pieces, List<int> ids, Action<int, int> onDuplicate)
    {
        int[] sorted = Sort(pieces, ids);
        AddBlock();
        Take(0);
        _units[0].Parent = -1;

        Stack<(int Node, int From, int To, int Depth)> open = new();
        open.Push((0, 0, sorted.Length, 0));
        Span<byte> labels = stackalloc byte[Block];
        Span<int> starts = stackalloc int[Block + 1];
        while (open.TryPop(out (int Node, int From, int To, int Depth) range))
        {
            int from = range.From;
            while (from < range.To && pieces.Bytes(sorted[from]).Length == range.Depth)
            {
                int id = sorted[from++];
                if (_units[range.Node].Id >= 0)
                    onDuplicate(_units[range.Node].Id, id);
                else
                    SetPiece(range.Node, id, pieces);
            }

            int count = 0;
            for (int i = from; i < range.To; i++)
            {
                byte label = pieces.Bytes(sorted[i])[range.Depth];
                if (count == 0 || labels[count - 1] != label)
                {
                    labels[count] = label;
                    starts[count++] = i;
                }
            }

            if (count == 0)
                continue;
            starts[count] = range.To;
            int found = FindBase(labels[..count]);
            _units[range.Node].Base = found;
            for (int i = 0; i < count; i++)
            {
                int child = found ^ labels[i];
                Take(child);
                _units[child].Parent = range.Node;
                open.Push((child, starts[i], starts[i + 1], range.Depth + 1));
            }
        }

        _next = _previous = [];
    }

    /// <summary>The units; index 0 is the root.</summary>
    public Unit[] Units => _units;

    /// <summary>Length of the longest piece that is a prefix of the text; 0 where none is.</summary>
    public int LongestPrefix(ReadOnlySpan<byte> text)
    {
        int node = 0, longest = 0;
        for (int i = 0; i < text.Length; i++)
        {
            int child = _units[node].Base ^ text[i];
            if (_units[child].Parent != node)
                break;
            node = child;
            if (_units[node].Id >= 0)
                longest = i + 1;
        }

        return longest;
    }

    /// <summary>The piece that is exactly this text, or -1.</summary>
    public int Exact(ReadOnlySpan<byte> text)
    {
        int node = 0;
        foreach (byte label in text)
        {
            int child = _units[node].Base ^ label;
            if (_units[child].Parent != node)
                return -1;
            node = child;
        }

        return _units[node].Id;
    }

    private static int[] Sort(PieceTable pieces, List<int> ids)
    {
        // Eight bytes of each piece as a number sort fast; only ties look at the rest.
        ulong[] keys = new ulong[ids.Count];
        int[] sorted = [.. ids];
        for (int i = 0; i < keys.Length; i++)
        {
            ReadOnlySpan<byte> piece = pieces.Bytes(sorted[i]);
            for (int j = 0; j < 8; j++)
                keys[i] = (keys[i] << 8) | (j < piece.Length ? piece[j] : 0u);
        }

        Array.Sort(keys, sorted);
        for (int from = 0; from < keys.Length;)
        {
            int to = from + 1;
            while (to < keys.Length && keys[to] == keys[from])
                to++;
            if (to - from > 1)
                sorted.AsSpan(from..to).Sort((a, b) => pieces.Bytes(a).SequenceCompareTo(pieces.Bytes(b)) is var order and not 0 ? order : a.CompareTo(b));
            from = to;
        }

        return sorted;
    }

    private void SetPiece(int node, int id, PieceTable pieces)
    {
        _units[node].Id = id;
        _units[node].Score = pieces.Type(id) == PieceType.Normal ? pieces.Score(id) : float.NaN;
    }

    private int FindBase(ReadOnlySpan<byte> labels)
    {
        int tries = 0;
        for (int slot = _free; slot >= 0 && tries < MaxTries; tries++)
        {
            int candidate = slot ^ labels[0];
            int i = 1;
            while (i < labels.Length && _units[candidate ^ labels[i]].Parent == -2)
                i++;
            if (i == labels.Length)
                return candidate;
            slot = _next[slot] == _free ? -1 : _next[slot];
        }

        return AddBlock();
    }

    // Opens 256 free units and returns the first one's index.
    private int AddBlock()
    {
        int start = _used;
        if (start + Block > _units.Length)
        {
            int length = Math.Max(1 << 14, _units.Length * 2);
            Array.Resize(ref _units, length);
            Array.Resize(ref _next, length);
            Array.Resize(ref _previous, length);
        }

        _used = start + Block;
        for (int i = start; i < _used; i++)
        {
            _units[i] = new Unit { Parent = -2, Id = -1 };
            _next[i] = i + 1;
            _previous[i] = i - 1;
        }

        int last = _used - 1;
        if (_free < 0)
        {
            _free = start;
            _next[last] = start;
            _previous[start] = last;
        }
        else
        {
            int tail = _previous[_free];
            _next[tail] = start;
            _previous[start] = tail;
            _next[last] = _free;
            _previous[_free] = last;
        }

        return start;
    }

    private void Take(int slot)
    {
        int next = _next[slot];
        int previous = _previous[slot];
        if (next == slot)
        {
            _free = -1;
            return;
        }

        _next[previous] = next;
        _previous[next] = previous;
        if (_free == slot)
            _free = next;
    }
}
