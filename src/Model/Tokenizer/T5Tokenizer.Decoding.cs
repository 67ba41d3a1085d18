// Ids back to text. Deliberately not: cleaning up spaces before punctuation (Hugging Face's clean_up_tokenization_spaces), which T5 does not need.
using System.Buffers;
using System.Text;

namespace IptNative.Model.Tokenizer;

public sealed partial class T5Tokenizer
{
    /// <summary>The text of ids.</summary>
    /// <remarks>
    /// Pieces decode as SentencePiece does: ▁ is a space, dropped at the beginning; unknown is " ⁇ "; byte pieces are joined to characters, damaged ones U+FFFD.
    /// Sentinels and added tokens stand between single spaces. An id that only the embedding has shows as &lt;unused_id&gt;.
    /// Differs from HF: the unknown piece stays visible, and so does an id without a name (HF's fast tokenizers drop it without a word, slow ones raise IndexError).
    /// </remarks>
    /// <param name="ids">Ids, 0 or more.</param>
    /// <param name="skipSpecial">Leaves out the control tokens (pad, eos); otherwise they are spelled out.</param>
    /// <param name="skipSentinels">Leaves out &lt;extra_id_i&gt; too; with skipSpecial this is HF's skip_special_tokens.</param>
    /// <returns>The text.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An id is negative, or outside the checkpoint's vocabulary where that is known.</exception>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecial = true, bool skipSentinels = false)
    {
        StringBuilder text = new();
        int from = 0;
        for (int i = 0; i < ids.Length; i++)
        {
            int id = ids[i];
            string name = id < 0 || id >= _pieces.Count || id >= _vocabSize ? IdToPiece(id) : ""; // Also the range check.
            AddedToken? token = id == UnkId ? null : _added.ById(id);
            bool isControl = token is { IsControl: true } || (id < _pieces.Count && _pieces.Type(id) == PieceType.Control);
            bool isApart = token is not null || id >= _pieces.Count;
            if (!isControl && !isApart)
                continue;

            bool skipped = isControl ? skipSpecial : skipSentinels && IsSentinel(id);
            if (skipped && isControl)
                continue; // Joins what stands on both sides, as SentencePiece does; DecodePieces passes over it.
            AppendStretch(text, ids[from..i]);
            from = i + 1;
            if (skipped)
                continue;
            if (!isControl)
                AppendSpace(text);
            text.Append(name.Length > 0 ? name : IdToPiece(id));
        }

        AppendStretch(text, ids[from..]);
        return text.ToString();
    }

    private static void AppendSpace(StringBuilder text)
    {
        if (text.Length > 0 && text[^1] != ' ')
            text.Append(' ');
    }

    // A stretch of pieces between tokens that stand apart.
    private void AppendStretch(StringBuilder text, ReadOnlySpan<int> ids)
    {
        if (ids.IsEmpty)
            return;
        string piece = DecodePieces(ids);
        if (piece.Length == 0)
            return;
        if (piece[0] != ' ')
            AppendSpace(text);
        text.Append(piece);
    }

    // Source: sentencepiece_processor.cc SentencePieceProcessor::Decode.
    private string DecodePieces(ReadOnlySpan<int> ids)
    {
        StringBuilder text = new();
        bool expectSpace = true;
        bool spaceSeen = false;
        for (int i = 0; i < ids.Length;)
        {
            int id = ids[i];
            if (_pieces.Type(id) == PieceType.Byte)
            {
                int end = i + 1;
                while (end < ids.Length && _pieces.Type(ids[end]) == PieceType.Byte)
                    end++;
                AppendBytes(text, ids[i..end]);
                i = end;
                continue;
            }

            i++;
            if (spaceSeen || text.Length > 0)
                expectSpace = false;
            spaceSeen = false;
            if (id == UnkId)
            {
                text.Append(_parts.UnkSurface);
                continue;
            }

            if (_pieces.Type(id) == PieceType.Control || _added.ById(id) is { IsControl: true })
                continue;
            ReadOnlySpan<char> piece = _pieces.IdToPiece(id);
            if (expectSpace && _parts.StripsSpace && piece[0] == '▁')
            {
                piece = piece[1..];
                spaceSeen = !_parts.StripsAllSpace;
            }

            int at = text.Length;
            text.Append(piece).Replace('▁', ' ', at, piece.Length);
        }

        return text.ToString();
    }

    private void AppendBytes(StringBuilder text, ReadOnlySpan<int> ids)
    {
        byte[] bytes = new byte[ids.Length];
        for (int i = 0; i < bytes.Length; i++)
            bytes[i] = _pieces.ByteValue(ids[i]);
        for (int i = 0; i < bytes.Length;)
        {
            bool valid = Rune.DecodeFromUtf8(bytes.AsSpan(i), out Rune rune, out int length) == OperationStatus.Done;
            text.Append(valid ? rune.ToString() : "\uFFFD");
            i += valid ? length : 1; // One U+FFFD per damaged byte, as the reference.
        }
    }
}
