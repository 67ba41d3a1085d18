// Viterbi over a Unigram vocabulary. Deliberately not: sampling and n-best, which only training a vocabulary needs.
namespace IptNative.Model.Tokenizer;

/// <summary>Cuts normalised text into the pieces with the highest sum of scores.</summary>
/// <remarks>
/// Ids are SentencePiece's to the last tie: scores add up in float from left to right, a candidate replaces the best path only when strictly greater, and the
/// comparison is between a double (the candidate) and a float (the stored best), as the reference's types make it.
/// Time O(bytes * longest piece), memory O(bytes).
/// Source: sentencepiece unigram_model.cc Model::EncodeOptimized; sentencepiece_processor.cc PopulateSentencePieceText (unknown runs, byte fallback).
/// </remarks>
internal sealed class UnigramSegmenter
{
    private const float UnkPenalty = 10.0f;

    private readonly PieceTable _pieces;
    private readonly PieceTrie.Unit[] _units;
    private readonly float _unkScore;

    public UnigramSegmenter(PieceTable pieces)
    {
        _pieces = pieces;
        _units = pieces.Trie.Units;
        _unkScore = pieces.MinScore - UnkPenalty;
    }

    /// <summary>Appends the tokens of a stretch of the buffer's Text.</summary>
    /// <param name="buffer">Holds the text and takes the tokens.</param>
    /// <param name="start">First byte.</param>
    /// <param name="end">One past the last byte.</param>
    public void Segment(TokenBuffer buffer, int start, int end)
    {
        if (start == end)
            return;
        ReadOnlySpan<byte> text = buffer.Text.AsSpan(start..end);
        Span<TokenBuffer.BestPath> best = FindBestPaths(text, buffer);

        int firstToken = buffer.Count;
        bool unkBefore = false;
        for (int to = text.Length; to > 0;)
        {
            TokenBuffer.BestPath node = best[to];
            bool isUnk = node.Id == _pieces.UnkId;
            if (!isUnk)
            {
                buffer.Add(node.Id);
            }
            else if (_pieces.ByteFallback)
            {
                for (int i = to - 1; i >= node.Start; i--)
                    buffer.Add(_pieces.ByteId(text[i]));
            }
            else if (unkBefore)
            {
                buffer.WidenLast(start + node.Start);
            }
            else
            {
                buffer.Add(node.Id, start + node.Start, to - node.Start);
            }

            unkBefore = isUnk;
            to = node.Start;
        }

        buffer.ReverseFrom(firstToken);
    }

    private Span<TokenBuffer.BestPath> FindBestPaths(ReadOnlySpan<byte> text, TokenBuffer buffer)
    {
        if (buffer.Best.Length <= text.Length)
            buffer.Best = new TokenBuffer.BestPath[(int)Math.Min(Array.MaxLength, Math.Max(text.Length + 1L, buffer.Best.Length * 2L))];
        Span<TokenBuffer.BestPath> best = buffer.Best.AsSpan(0, text.Length + 1);
        best.Fill(new TokenBuffer.BestPath { Start = -1, Id = -1 });

        PieceTrie.Unit[] units = _units;
        int rootBase = units[0].Base;
        for (int from = 0; from < text.Length;)
        {
            float scoreHere = best[from].Score;
            int charEnd = Math.Min(from + CharLength(text[from]), text.Length);
            bool hasSingleChar = false;
            int node = 0;
            int nodeBase = rootBase;
            for (int i = from; i < text.Length;)
            {
                int child = nodeBase ^ text[i++];
                ref readonly PieceTrie.Unit unit = ref units[child];
                if (unit.Parent != node)
                    break;
                node = child;
                nodeBase = unit.Base;
                if (unit.Id < 0)
                    continue;

                double score = unit.Score;
                if (double.IsNaN(score) && !TryScore(unit.Id, i - from, out score))
                    continue;
                double candidate = score + scoreHere;
                ref TokenBuffer.BestPath target = ref best[i];
                if (target.Start < 0 || candidate > target.Score)
                    target = new TokenBuffer.BestPath { Score = (float)candidate, Start = from, Id = unit.Id };
                hasSingleChar |= i == charEnd;
            }

            if (!hasSingleChar)
            {
                float candidate = _unkScore + scoreHere;
                ref TokenBuffer.BestPath target = ref best[charEnd];
                if (target.Start < 0 || candidate > target.Score)
                    target = new TokenBuffer.BestPath { Score = candidate, Start = from, Id = _pieces.UnkId };
            }

            from = charEnd;
        }

        return best;
    }

    // User-defined pieces get a bonus so that they always win; unused ones never take part.
    private bool TryScore(int id, int bytes, out double score)
    {
        score = (bytes * _pieces.MaxScore) - 0.1;
        return _pieces.Type(id) == PieceType.UserDefined;
    }

    // By the first byte alone, as the reference's OneCharLen: a stray trail byte counts as a character.
    private static int CharLength(byte first) => first < 0xC0 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}
