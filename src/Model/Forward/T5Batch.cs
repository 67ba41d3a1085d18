// The examples of one pass as token ids, ragged. Deliberately without tensors: FrozenT5 pads them into its own memory.
using System.Runtime.InteropServices;
using IptNative.Kernels.Ops;

namespace IptNative.Model.Forward;

/// <summary>Examples of a batch, each with its own length, prompt and target; filled again for every step without allocating.</summary>
public sealed class T5Batch
{
    /// <summary>A label that does not count (HF: -100): padding of the target.</summary>
    public const int Ignore = -100;

    /// <summary>Stands in a text of <see cref="AddTemplate"/> where the prompt's next row goes.</summary>
    public const int Place = EmbeddingGather.Keep;

    private readonly record struct Example(int FirstInput, int Inputs, int FirstLabel, int Labels, int Prompt, int PromptPosition, bool HasPlaces);

    private readonly List<Example> _examples = [];
    private readonly List<int> _inputs = [];
    private readonly List<int> _labels = [];

    /// <summary>Examples in the batch.</summary>
    public int Count => _examples.Count;

    /// <summary>T: labels of the example that has most; 0 where no example has any.</summary>
    public int TargetLength { get; private set; }

    /// <summary>Takes all examples out; their memory is used again.</summary>
    public void Clear()
    {
        _examples.Clear();
        _inputs.Clear();
        _labels.Clear();
        TargetLength = 0;
    }

    /// <summary>Adds an example.</summary>
    /// <param name="inputIds">Token ids with EOS, without padding.</param>
    /// <param name="labels">Target ids with EOS, without padding; may hold <see cref="Ignore"/>. Empty where nothing is scored.</param>
    /// <param name="prompt">Number of a prompt in the <see cref="PromptTable"/> of the pass; -1 for none.</param>
    /// <param name="promptPosition">Tokens that stand before the prompt: 0 puts it first.</param>
    /// <exception cref="ArgumentOutOfRangeException">The position lies outside the text, or the prompt's number is below -1.</exception>
    public void Add(ReadOnlySpan<int> inputIds, ReadOnlySpan<int> labels = default, int prompt = -1, int promptPosition = 0)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(prompt, -1);
        ArgumentOutOfRangeException.ThrowIfNegative(promptPosition);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(promptPosition, inputIds.Length);
        Append(inputIds, labels, prompt, promptPosition, hasPlaces: false);
    }

    /// <summary>Adds an example whose text has places for the prompt's rows, anywhere in it.</summary>
    /// <param name="inputIds">Token ids with EOS; <see cref="Place"/> as often as the prompt has rows, which fill the places in order.</param>
    /// <param name="labels">As <see cref="Add"/>.</param>
    /// <param name="prompt">Number of a prompt in the <see cref="PromptTable"/> of the pass.</param>
    /// <exception cref="ArgumentOutOfRangeException">The prompt's number is below 0.</exception>
    public void AddTemplate(ReadOnlySpan<int> inputIds, ReadOnlySpan<int> labels, int prompt)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(prompt);
        Append(inputIds, labels, prompt, 0, hasPlaces: true);
    }

    private void Append(ReadOnlySpan<int> inputIds, ReadOnlySpan<int> labels, int prompt, int promptPosition, bool hasPlaces)
    {
        _examples.Add(new Example(_inputs.Count, inputIds.Length, _labels.Count, labels.Length, prompt, promptPosition, hasPlaces));
        _inputs.AddRange(inputIds);
        _labels.AddRange(labels);
        TargetLength = Math.Max(TargetLength, labels.Length);
    }

    /// <summary>Token ids of an example.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <returns>As they were added.</returns>
    public ReadOnlySpan<int> InputIds(int example) => CollectionsMarshal.AsSpan(_inputs).Slice(_examples[example].FirstInput, _examples[example].Inputs);

    /// <summary>Labels of an example.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <returns>As they were added.</returns>
    public ReadOnlySpan<int> Labels(int example) => CollectionsMarshal.AsSpan(_labels).Slice(_examples[example].FirstLabel, _examples[example].Labels);

    /// <summary>Prompt number of an example.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <returns>-1 for none.</returns>
    public int Prompt(int example) => _examples[example].Prompt;

    /// <summary>Whether an example's text has places for its prompt's rows.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <returns>True after <see cref="AddTemplate"/>.</returns>
    public bool HasPlaces(int example) => _examples[example].HasPlaces;

    /// <summary>Tokens before the prompt of an example.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <returns>0 where the prompt comes first.</returns>
    public int PromptPosition(int example) => _examples[example].PromptPosition;
}
