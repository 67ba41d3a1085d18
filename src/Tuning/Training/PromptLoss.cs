// The language-model loss of a step's examples and its prompt gradients, in micro-batches. Deliberately not: which examples, and what the gradients are for.
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Forward;
using IptNative.Tuning.Data;

namespace IptNative.Tuning.Training;

/// <summary>How much is computed at once.</summary>
/// <param name="Examples">Most examples of a micro-batch, 1 or more.</param>
/// <param name="Positions">Most source positions of a micro-batch, prompts and padding included; a longer example stands alone.</param>
public readonly record struct MicroBatchLimit(int Examples, long Positions);

/// <summary>Collects a step's examples and computes each group's loss and every prompt's gradient.</summary>
/// <remarks>
/// A group's tokens are counted over the whole step before anything is computed, so that a mean is PyTorch's mean however the step is cut.
/// Examples are computed sorted by length, so that a padded forward pass pads little; equal lengths keep their order.
/// </remarks>
public sealed class PromptLoss
{
    private readonly record struct Item(EncodedExamples Examples, int Example, int Group, int Prompt, int Answer);

    private readonly GradientPass _pass;
    private readonly MicroBatchLimit _limit;
    private readonly bool _mean;
    private readonly T5Batch _batch = new();
    private readonly List<Item> _items = [];
    private long[] _order = [];
    private int[] _groups = [];
    private readonly double[] _weights;
    private readonly double[] _losses;
    private readonly long[] _tokens;

    /// <summary>Prepares for steps of up to so many groups.</summary>
    /// <param name="pass">Forward and backward.</param>
    /// <param name="groups">Groups: runs, or tasks.</param>
    /// <param name="reduction">Mean over a group's tokens, or sum.</param>
    /// <param name="limit">How much is computed at once.</param>
    public PromptLoss(GradientPass pass, int groups, LossReduction reduction, MicroBatchLimit limit)
    {
        ArgumentNullException.ThrowIfNull(pass);
        ArgumentOutOfRangeException.ThrowIfLessThan(groups, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(limit.Examples, 1, nameof(limit));
        (_pass, _limit, _mean) = (pass, limit, reduction == LossReduction.Mean);
        _weights = new double[groups];
        _losses = new double[groups];
        _tokens = new long[groups];
    }

    /// <summary>Loss of each group in the last step; 0 for a group without examples.</summary>
    public ReadOnlySpan<double> Losses => _losses;

    /// <summary>Tokens computed in the last step: prompts, inputs and targets, without padding.</summary>
    public long Tokens { get; private set; }

    /// <summary>Starts a step.</summary>
    public void Clear()
    {
        _items.Clear();
        Array.Clear(_tokens);
    }

    /// <summary>Adds an example to the step.</summary>
    /// <param name="examples">Where it is.</param>
    /// <param name="example">Its number there.</param>
    /// <param name="group">Whose loss it belongs to.</param>
    /// <param name="prompt">Its prompt in the table; -1 for none.</param>
    /// <param name="answer">Which of its gold answers is the target.</param>
    public void Add(EncodedExamples examples, int example, int group, int prompt, int answer = 0)
    {
        ArgumentNullException.ThrowIfNull(examples);
        _items.Add(new Item(examples, example, group, prompt, answer));
        _tokens[group] += GradientPass.CountedTokens(examples.LabelIds(example, answer));
    }

    /// <summary>Computes the step.</summary>
    /// <param name="prompts">The table.</param>
    /// <param name="gradients">f32 like the table, overwritten; empty where only losses are wanted.</param>
    /// <param name="cancel">Ends the work between two micro-batches.</param>
    /// <exception cref="ArgumentException">A prompt does not fit.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancel"/> was set.</exception>
    public void Run(PromptTable prompts, Tensor gradients, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        Array.Clear(_losses);
        Tokens = 0;
        for (int g = 0; g < _weights.Length; g++)
            _weights[g] = !_mean ? 1 : _tokens[g] == 0 ? 0 : 1.0 / _tokens[g];
        if (!gradients.IsEmpty)
            Elementwise.Fill(gradients.Device, gradients, gradients.Elements, 0);
        Span<long> order = Sort(prompts);
        for (int done = 0; done < order.Length;)
        {
            cancel.ThrowIfCancellationRequested();
            done += Fill(order[done..], prompts);
            _pass.Run(_batch, prompts, _groups.AsSpan(0, _batch.Count), _weights, _losses, gradients);
            Tokens += _pass.SourceRows + _pass.TargetRows;
        }
    }

    /// <summary>Looks for the source of a number that is not finite among one group's examples of the last step.</summary>
    /// <param name="group">The group.</param>
    /// <param name="prompts">The table.</param>
    /// <returns>The sublayer and the example, counted from 1, in words; null where everything is finite this time.</returns>
    public string? FindNonFinite(int group, PromptTable prompts)
    {
        for (int i = 0; i < _items.Count; i++)
        {
            Item item = _items[i];
            if (item.Group != group)
                continue;
            _batch.Clear();
            item.Examples.AddTo(_batch, item.Example, item.Prompt, withLabels: true, item.Answer);
            if (_pass.FindNonFinite(_batch, prompts) is { } where)
                return $"{where}, example {item.Example + 1} of {item.Examples.Task}";
        }
        return null;
    }

    // Longest first: a pass that does not fit fails at once. Length and order in one number, so that sorting allocates nothing.
    private Span<long> Sort(PromptTable prompts)
    {
        if (_order.Length < _items.Count)
        {
            _order = new long[_items.Count];
            _groups = new int[_items.Count];
        }
        Span<long> order = _order.AsSpan(0, _items.Count);
        for (int i = 0; i < order.Length; i++)
            order[i] = ((long)(int.MaxValue - Length(_items[i], prompts)) << 32) | (uint)i;
        order.Sort();
        return order;
    }

    private int Fill(ReadOnlySpan<long> order, PromptTable prompts)
    {
        _batch.Clear();
        long longest = Length(_items[(int)(order[0] & uint.MaxValue)], prompts);
        int count = (int)Math.Clamp(_limit.Positions / longest, 1, Math.Min(_limit.Examples, order.Length));
        for (int i = 0; i < count; i++)
        {
            Item item = _items[(int)(order[i] & uint.MaxValue)];
            item.Examples.AddTo(_batch, item.Example, item.Prompt, withLabels: true, item.Answer);
            _groups[i] = item.Group;
        }
        return count;
    }

    // A template has the prompt's places in the text.
    private static int Length(Item item, PromptTable prompts) => item.Examples.InputIds(item.Example).Length + (item.Prompt < 0 || item.Examples.Options.Template is not null ? 0 : prompts.Length(item.Prompt));
}
