// Small changes to the text of an example that runs switch on or off. Deliberately not per task: see TaskCasting.
namespace IptNative.Tasks.Casting;

/// <summary>Task prefix and span-corruption sentinel.</summary>
public static class TaskText
{
    // Every target of T5's span corruption starts with it, so models that saw nothing else produce it first (Lester et al. 2021, section 3.2).
    private const string Sentinel = "<extra_id_0>";

    /// <summary>"[task] input", the multi-task prefix of CrossFit and IPT.</summary>
    /// <param name="task">Task name.</param>
    /// <param name="input">Input text.</param>
    /// <returns>The prefixed input.</returns>
    public static string WithPrefix(string task, string input) => $"[{task}] {input}";

    /// <summary>The target for a model that was never adapted to language modelling: "&lt;extra_id_0&gt; target".</summary>
    /// <param name="target">Target text.</param>
    /// <returns>The target behind the first sentinel.</returns>
    public static string WithSentinel(string target) => $"{Sentinel} {target}";

    /// <summary>Takes the sentinel off a prediction, where it has one.</summary>
    /// <param name="prediction">Generated text, sentinels kept by the tokenizer.</param>
    /// <returns>The text behind the first sentinel and before the next.</returns>
    public static string WithoutSentinel(string prediction)
    {
        ArgumentNullException.ThrowIfNull(prediction);
        string text = prediction.Trim();
        if (text.StartsWith(Sentinel, StringComparison.Ordinal)) text = text[Sentinel.Length..];
        int next = text.IndexOf("<extra_id_", StringComparison.Ordinal);
        return (next < 0 ? text : text[..next]).Trim();
    }
}
