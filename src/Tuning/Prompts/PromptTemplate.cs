// Where a prompt's rows and an input's text stand: "[P:3] {text} [P:3] It was [slot]". Deliberately not: fields of a data record (Tasks' TextTemplate), training.
using System.Globalization;
using System.Text;
using IptNative.Kernels.Ops;
using IptNative.Model.Tokenizer;

namespace IptNative.Tuning.Prompts;

/// <summary>Virtual tokens anywhere in a text (Liu et al. 2021, P-tuning).</summary>
/// <remarks>
/// [P:n] stands for n virtual tokens, filled with the prompt's rows in order; {text} for the input; [slot] for the place of the answer, which for T5 is the
/// sentinel &lt;extra_id_0&gt;. [[ and {{ stand for themselves. What stands between two virtual tokens is tokenised as one text.
/// </remarks>
public sealed class PromptTemplate : IEquatable<PromptTemplate>
{
    private enum Kind
    {
        Words,
        Text,
        Virtual,
        Slot,
    }

    private readonly record struct Part(Kind Kind, string Words, int Rows);

    // More is a mistyped number: see PromptInitialiser.
    private const int MostRows = 1 << 16;
    private const int Sentinel = 0;

    private readonly List<Part> _parts = [];

    private PromptTemplate(string source) => Source = source;

    /// <summary>As it was written.</summary>
    public string Source { get; }

    /// <summary>Virtual tokens.</summary>
    public int Rows { get; private set; }

    /// <summary>Reads a template.</summary>
    /// <param name="template">For example "[P:3] {text} [P:3] It was [slot]".</param>
    /// <returns>The template.</returns>
    /// <exception cref="ArgumentException">A slot is unknown or not closed, {text} is missing or there twice, [slot] is there twice, or there are no virtual tokens.</exception>
    public static PromptTemplate Parse(string template)
    {
        ArgumentNullException.ThrowIfNull(template);
        var parsed = new PromptTemplate(template);
        var words = new StringBuilder();
        for (int i = 0; i < template.Length; i++)
        {
            char c = template[i];
            if (c is not ('[' or '{'))
            {
                words.Append(c);
                continue;
            }
            if (i + 1 < template.Length && template[i + 1] == c)
            {
                words.Append(c);
                i++;
                continue;
            }
            int end = template.IndexOf(c == '[' ? ']' : '}', i);
            if (end < 0)
                throw parsed.Invalid($"the slot at column {i + 1} is not closed, expected {(c == '[' ? ']' : '}')}, or {c}{c} for the character itself");
            parsed.AddWords(words);
            parsed.AddSlot(template[i..(end + 1)]);
            i = end;
        }
        parsed.AddWords(words);
        if (parsed.Count(Kind.Text) != 1)
            throw parsed.Invalid($"{{text}} is there {parsed.Count(Kind.Text)} times, expected once: it stands for the input");
        if (parsed.Count(Kind.Slot) > 1)
            throw parsed.Invalid($"[slot] is there {parsed.Count(Kind.Slot)} times, expected at most once");
        if (parsed.Rows == 0)
            throw parsed.Invalid("there are no virtual tokens, expected [P:n] at least once");
        return parsed;
    }

    /// <summary>An input's ids, end of sequence last.</summary>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="text">The input.</param>
    /// <param name="limit">Most tokens, virtual ones not counted; 2 or more.</param>
    /// <param name="ids">Receives the ids behind what it holds; -1 (T5Batch.Place) for each virtual token.</param>
    /// <returns>True where the text was cut; the template never is.</returns>
    /// <exception cref="ArgumentException">The tokenizer has no sentinel for [slot], or the template alone exceeds the limit.</exception>
    public bool Encode(T5Tokenizer tokenizer, string text, int limit, List<int> ids)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(ids);
        int start = ids.Count;
        Append(tokenizer, text, ids);
        int tokens = ids.Count - start - Rows;
        if (tokens <= limit)
            return false;
        // The text gives way, not the template: cut by its own tokens, which at its ends may differ from those of the text in its place.
        ids.RemoveRange(start, ids.Count - start);
        Append(tokenizer, "", ids);
        int room = limit - (ids.Count - start - Rows);
        if (room < 0)
            throw Invalid($"it has {ids.Count - start - Rows} tokens without any text, expected at most {limit} (max_source_length)");
        ids.RemoveRange(start, ids.Count - start);
        Append(tokenizer, text, ids, room);
        return true;
    }

    /// <inheritdoc/>
    public bool Equals(PromptTemplate? other) => other is not null && other.Source == Source;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as PromptTemplate);

    /// <inheritdoc/>
    public override int GetHashCode() => Source.GetHashCode(StringComparison.Ordinal);

    /// <inheritdoc/>
    public override string ToString() => Source;

    // room: null tokenises the text together with the words beside it; a number takes so many of its own tokens.
    private void Append(T5Tokenizer tokenizer, string text, List<int> ids, int? room = null)
    {
        var run = new StringBuilder();
        foreach (Part part in _parts)
        {
            switch (part.Kind)
            {
                case Kind.Words:
                    run.Append(part.Words);
                    break;
                case Kind.Text when room is { } most:
                    Flush();
                    ids.AddRange(tokenizer.Encode(text, addEos: false).AsSpan(..most));
                    break;
                case Kind.Text:
                    run.Append(text);
                    break;
                case Kind.Slot:
                    Flush();
                    if (tokenizer.SentinelCount == 0)
                        throw Invalid("the tokenizer has no sentinel for [slot]. Leave it out");
                    ids.Add(tokenizer.SentinelId(Sentinel));
                    break;
                default:
                    Flush();
                    for (int i = 0; i < part.Rows; i++)
                        ids.Add(EmbeddingGather.Keep);
                    break;
            }
        }
        Flush();
        ids.Add(tokenizer.EosId);

        void Flush()
        {
            string words = run.ToString().Trim();
            run.Clear();
            if (words.Length > 0)
                ids.AddRange(tokenizer.Encode(words, addEos: false));
        }
    }

    private void AddWords(StringBuilder words)
    {
        if (words.Length > 0)
            _parts.Add(new Part(Kind.Words, words.ToString(), 0));
        words.Clear();
    }

    private void AddSlot(string slot)
    {
        if (slot == "{text}")
        {
            _parts.Add(new Part(Kind.Text, "", 0));
        }
        else if (slot == "[slot]")
        {
            _parts.Add(new Part(Kind.Slot, "", 0));
        }
        else if (slot.StartsWith("[P:", StringComparison.Ordinal))
        {
            string number = slot[3..^1];
            if (!int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int rows) || rows is < 1 or > MostRows || Rows + rows > MostRows)
                throw Invalid($"{slot} asks for '{number}' virtual tokens, expected a number from 1 to {MostRows}, all together too");
            _parts.Add(new Part(Kind.Virtual, "", rows));
            Rows += rows;
        }
        else
        {
            throw Invalid($"'{slot}' is no slot, expected {{text}}, [P:n] for n virtual tokens, or [slot]; {slot[0]}{slot[0]} writes the character itself");
        }
    }

    private int Count(Kind kind) => _parts.Count(p => p.Kind == kind);

    private ArgumentException Invalid(string what) => new($"Prompt template \"{(Source.Length > 200 ? Source[..200] + "…" : Source)}\": {what}.");
}
