// Where a batch's prompt rows go: before or inside a text, or wherever the text itself has places for them. Deliberately not: the embeddings (PromptGather).
using IptNative.Kernels.Ops;
using IptNative.Model.Config;

namespace IptNative.Model.Forward;

/// <summary>Ids of one example with its prompt's rows kept free, and the stretches of those rows.</summary>
internal static unsafe class PromptPlaces
{
    /// <summary>Stretches of all examples: one for a prompt in one piece, or none; as many as a template has.</summary>
    public static int Count(T5Batch batch)
    {
        int count = 0;
        for (int b = 0; b < batch.Count; b++)
            count += batch.HasPlaces(b) ? Stretches(batch.InputIds(b)) : 1;
        return count;
    }

    /// <summary>Positions of an example, prompt included.</summary>
    public static int Length(T5Batch batch, PromptTable? prompts, int example)
    {
        int text = batch.InputIds(example).Length, prompt = batch.Prompt(example);
        return batch.HasPlaces(example) || prompt < 0 ? text : checked(text + prompts!.Length(prompt)); // a prompt's number without a table has been refused
    }

    /// <summary>Lays one example's ids out and notes its stretches.</summary>
    /// <param name="batch">Checked by <see cref="BatchChecks.SourceLength"/>.</param>
    /// <param name="prompts">Its prompts.</param>
    /// <param name="example">Which example.</param>
    /// <param name="row">Receives the ids, <see cref="EmbeddingGather.Keep"/> at prompt rows.</param>
    /// <param name="firstRow">Row of <paramref name="row"/>'s beginning in the batch.</param>
    /// <param name="place">Receives (first prompt row, length, row in the batch) of each stretch.</param>
    /// <param name="config">Says which ids there are.</param>
    /// <returns>Behind the last stretch.</returns>
    public static int* Lay(T5Batch batch, PromptTable? prompts, int example, Span<int> row, int firstRow, int* place, T5Config config)
    {
        ReadOnlySpan<int> text = batch.InputIds(example);
        BatchChecks.RequireIds(text, example, "input", config, batch.HasPlaces(example) ? T5Batch.Place : 0);
        int prompt = batch.Prompt(example), first = prompt < 0 ? 0 : prompts!.First(prompt); // as above
        if (batch.HasPlaces(example))
        {
            text.CopyTo(row);
            for (int i = 0, taken = 0; i < text.Length; i++)
            {
                if (text[i] != T5Batch.Place)
                    continue;
                int length = text[i..].IndexOfAnyExcept(T5Batch.Place);
                length = length < 0 ? text.Length - i : length;
                place = Note(place, first + taken, length, firstRow + i);
                (taken, i) = (taken + length, i + length - 1);
            }
            return place;
        }
        int rows = prompt < 0 ? 0 : prompts!.Length(prompt), position = batch.PromptPosition(example);
        text[..position].CopyTo(row);
        row.Slice(position, rows).Fill(EmbeddingGather.Keep);
        text[position..].CopyTo(row[(position + rows)..]);
        return Note(place, first, rows, rows == 0 ? firstRow : firstRow + position);
    }

    /// <summary>Places for prompt rows in a text.</summary>
    public static int Rows(ReadOnlySpan<int> text) => text.Count(T5Batch.Place);

    private static int Stretches(ReadOnlySpan<int> text)
    {
        int count = 0;
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == T5Batch.Place && (i == 0 || text[i - 1] != T5Batch.Place))
                count++;
        }
        return count;
    }

    private static int* Note(int* place, int first, int length, int row)
    {
        (place[0], place[1], place[2]) = (first, length, row);
        return place + PromptGather.PlaceWidth;
    }
}
