// The words and number forms of an experiment's report. Deliberately nothing that is computed.
using System.Globalization;
using IptNative.Tuning.Experiments;

namespace IptNative.Tuning.Reports;

internal static class ReportTexts
{
    public const string None = "–";
    public const string NotMeasured = "not measured";

    public const string Rules =
        "E_abs is the mean over tasks of the test score, each task's score being the mean over its seeds. E_rel is the mean over tasks of that score divided by the task's prompt tuning score on the same draw and shots. "
        + "A task on which prompt tuning scores exactly 0 has no ratio: it is left out of E_rel, stays in E_abs, and is counted in the column \"PT = 0\". "
        + "A task without a score (its metric has no value, or its run failed) is left out of both and counted in \"no score\". "
        + "The median of the ratios stands beside their mean, because one task with a tiny denominator can move a mean far. "
        + "± is the standard deviation of E_rel over seeds, each seed taken as an experiment of its own. Scores are each task's own metric, as fractions shown in percent.";

    public static string Explain(this Study study) => study switch
    {
        Study.Untuned => "the frozen model without a prompt",
        Study.PromptTuning => "every number of the prompt tuned",
        Study.TrainMsf => "trained prompts, sent through the subspace that was made from them",
        Study.TestMsf => "unseen tasks' trained prompts, sent through the subspace",
        Study.TrainSame => "z tuned on the very data that the subspace saw",
        Study.TrainOther => "unseen-data challenge: z tuned on another draw of the training tasks",
        Study.TestIst => "unseen-task challenge: z tuned on tasks that were held out",
        _ => "held-out tasks: prompt tuning that starts from IST's prompt",
    };

    public static string Label(this SubspaceMethod method) => method switch
    {
        SubspaceMethod.Msf => "MSF",
        SubspaceMethod.RandomPrompt => "random Proj_b",
        SubspaceMethod.RandomLinear => "random linear",
        SubspaceMethod.Fastfood => "Fastfood",
        _ => "PCA",
    };

    /// <summary>A fraction in percent, one decimal.</summary>
    public static string Percent(double fraction) => double.IsFinite(fraction) ? (100 * fraction).ToString("0.0", CultureInfo.InvariantCulture) : None;

    public static string WithDeviation(double fraction, double deviation) => double.IsFinite(deviation) && double.IsFinite(fraction) ? $"{Percent(fraction)} ± {Percent(deviation)}" : Percent(fraction);

    public static string Count(int n, string one, string? many = null) => n == 1 ? $"1 {one}" : $"{n} {many ?? one + "s"}";

    public static string Sentence(string words) => $"{char.ToUpperInvariant(words[0])}{words[1..]}.";

    public static string Dimension(int dI) => dI > 0 ? $"{dI}" : None;
}
