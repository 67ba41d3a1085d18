// The options of an experiment's three methods, on top of a run's own sections. Deliberately not the arithmetic, nor what a run's sections mean: see Runs.
using IptNative.Tuning.Runs;
using IptNative.Tuning.Runs.Options;
using IptNative.Tuning.Subspaces;

namespace IptNative.Tuning.Experiments;

/// <summary>How z is searched for.</summary>
public enum IstSearch
{
    /// <summary>By gradients, with the section's optimizer.</summary>
    Gradient,

    /// <summary>L-BFGS on the full few-shot batch.</summary>
    Lbfgs,

    /// <summary>CMA-ES: forward passes only.</summary>
    CmaEs,
}

/// <summary>Prompt tuning of one task (Lester et al. 2021).</summary>
public sealed record PromptTuningSection
{
    /// <summary>Length P and first values.</summary>
    public PromptConfig Prompt { get; init; } = new() { Init = PromptInit.Vocab };

    /// <summary>Optimizer.</summary>
    public OptimizerConfig Optimizer { get; init; } = new();

    /// <summary>Steps, batches, lengths; its seed and runs are the experiment's.</summary>
    public TrainingConfig Training { get; init; } = new();

    /// <summary>Loss.</summary>
    public LossConfig Loss { get; init; } = new();

    internal PromptTuningSection Visit(OptionVisitor v) => new()
    {
        Prompt = v.Section("prompt", Prompt, (p, w) => p.Visit(w), "The prompts."),
        Optimizer = v.Section("optimizer", Optimizer, (o, w) => o.Visit(w), "The optimizer."),
        Training = v.Section("training", Training, (t, w) => t.Visit(w), "Steps and batches; seeds are the experiment's."),
        Loss = v.Section("loss", Loss, (l, w) => l.Visit(w), "What is minimised."),
    };

    internal void Validate()
    {
        MethodChecks.Training("prompt_tuning", Optimizer, Training);
        Prompt.Validate();
        if (Prompt.Init is PromptInit.File or PromptInit.Text)
            throw new ArgumentException("prompt_tuning.prompt.init is \"file\" or \"text\", expected uniform, vocab or class_label: an experiment's tasks do not share a start. Prompts that start from IST are \"challenges.stage_two\".");
    }
}

/// <summary>Multi-task subspace finding. The defaults are those of IPT's code, save alpha: that one is stated for standardised prompts.</summary>
public sealed record MsfSection
{
    private static readonly (string, StandardisationKind)[] Standards = [("none", StandardisationKind.None), ("global", StandardisationKind.Global), ("task", StandardisationKind.Task)];

    private static readonly (string, SubspaceActivation)[] Activations =
        [("tanh", SubspaceActivation.Tanh), ("relu", SubspaceActivation.Relu), ("gelu", SubspaceActivation.Gelu), ("identity", SubspaceActivation.Identity)];

    /// <summary>Weight of the reconstruction loss.</summary>
    public double Alpha { get; init; } = 1;

    /// <summary>What prompts are divided by before Proj.</summary>
    public StandardisationKind Standardise { get; init; } = StandardisationKind.Global;

    /// <summary>d'_I, inner size of Proj_b.</summary>
    public int DInner { get; init; } = 768;

    /// <summary>Activation of Proj_b.</summary>
    public SubspaceActivation Activation { get; init; } = SubspaceActivation.Tanh;

    /// <summary>Whether L_LM of the reconstructed prompt is part of the loss (the code's distillation flag).</summary>
    public bool LanguageModelLoss { get; init; } = true;

    /// <summary>Whether the reconstruction is part of the loss.</summary>
    public bool ReconstructionLoss { get; init; } = true;

    /// <summary>Every task equally often; otherwise every example.</summary>
    public bool BalanceTasks { get; init; } = true;

    /// <summary>The trained prompt with the best dev score stands for a task (the first seed on a tie); otherwise the first seed's.</summary>
    public bool BestPrompt { get; init; } = true;

    /// <summary>Seed of the first weights and of the batches.</summary>
    public int Seed { get; init; }

    /// <summary>Optimizer.</summary>
    public OptimizerConfig Optimizer { get; init; } = new() { Name = OptimizerKind.AdamW, LearningRate = 3e-5, Schedule = RateSchedule.LinearDecay, WarmupSteps = 6000, ClipNorm = 0.1, AdamW = new() { WeightDecay = 0 } };

    /// <summary>Steps and batches.</summary>
    public TrainingConfig Training { get; init; } = new() { Steps = 100_000, BatchSize = 64, EvalEvery = 5000 };

    /// <summary>Loss of the language model.</summary>
    public LossConfig Loss { get; init; } = new() { LabelSmoothing = 0.1, ZLoss = 0 };

    internal MsfSection Visit(OptionVisitor v) => VisitObjective(v) with
    {
        BestPrompt = v.Switch("best_prompt", BestPrompt, "A task's prompt is its best seed's by dev score; otherwise the first seed's."),
        Seed = v.Int("seed", Seed, 0, "Seed of the first weights and of the batches."),
        Optimizer = v.Section("optimizer", Optimizer, (o, w) => o.Visit(w), "The optimizer."),
        Training = v.Section("training", Training, (t, w) => t.Visit(w), "Steps and batches; seeds are the experiment's."),
        Loss = v.Section("loss", Loss, (l, w) => l.Visit(w), "What is minimised."),
    };

    /// <summary>The options that a run file of its own has too; there, the others are the run's.</summary>
    internal MsfSection VisitObjective(OptionVisitor v) => this with
    {
        Alpha = v.Number("alpha", Alpha, NumberRange.AtLeast(0), "Weight of the reconstruction loss, in standardised units."),
        Standardise = v.Choice("standardise", Standardise, Standards, "What prompts are divided by before Proj."),
        DInner = v.Int("d_inner", DInner, 1, "Inner size of Proj_b."),
        Activation = v.Choice("activation", Activation, Activations, "Activation of Proj_b."),
        LanguageModelLoss = v.Switch("language_model_loss", LanguageModelLoss, "The reconstructed prompt's own loss is part of it."),
        ReconstructionLoss = v.Switch("reconstruction_loss", ReconstructionLoss, "The distance to the trained prompts is part of it."),
        BalanceTasks = v.Switch("balance_tasks", BalanceTasks, "Every task equally often; otherwise every example."),
    };

    internal void Validate()
    {
        MethodChecks.Training("msf", Optimizer, Training);
        ValidateObjective("msf.optimizer");
    }

    /// <summary>Checks what a run file of its own has too.</summary>
    internal void ValidateObjective(string optimizer)
    {
        if (Optimizer.Name != OptimizerKind.AdamW)
            throw new ArgumentException($"{optimizer}.name is \"adafactor\", expected \"adamw\": the subspace's gradients are never stored, and only AdamW is written for that.");
        if (!LanguageModelLoss && !ReconstructionLoss)
            throw new ArgumentException("msf.language_model_loss and msf.reconstruction_loss are both false, which leaves no loss; expected at least one of them to be true.");
    }
}

/// <summary>Intrinsic subspace tuning. The defaults are those of IPT's code.</summary>
public sealed record IstSection
{
    private static readonly (string, IstSearch)[] Searches = [("gradient", IstSearch.Gradient), ("lbfgs", IstSearch.Lbfgs), ("cma_es", IstSearch.CmaEs)];

    /// <summary>How z is searched for.</summary>
    public IstSearch Search { get; init; }

    /// <summary>Start from the mean of the training tasks' z; otherwise from N(0, <see cref="InitStd"/>).</summary>
    public bool StartAtMean { get; init; }

    /// <summary>Standard deviation of the first z, or of CMA-ES's first generation.</summary>
    public double InitStd { get; init; } = 0.02;

    /// <summary>Independent starts, the best of which by dev score counts.</summary>
    public int Restarts { get; init; } = 1;

    /// <summary>CMA-ES: candidates of a generation.</summary>
    public int Population { get; init; } = 20;

    /// <summary>Optimizer, where z is searched for by gradients.</summary>
    public OptimizerConfig Optimizer { get; init; } = new() { Name = OptimizerKind.AdamW, LearningRate = 1e-5, Schedule = RateSchedule.LinearDecay, WarmupSteps = 6000, ClipNorm = 0.1, AdamW = new() { WeightDecay = 0 } };

    /// <summary>Steps and batches; for CMA-ES a step is a generation.</summary>
    public TrainingConfig Training { get; init; } = new() { Steps = 100_000, BatchSize = 4, EvalEvery = 1000 };

    /// <summary>Loss.</summary>
    public LossConfig Loss { get; init; } = new() { LabelSmoothing = 0.1, ZLoss = 0 };

    internal IstSection Visit(OptionVisitor v) => new()
    {
        Search = v.Choice("search", Search, Searches, "How z is searched for."),
        StartAtMean = v.Switch("start_at_mean", StartAtMean, "Start from the mean of the training tasks' z; otherwise from a normal draw."),
        InitStd = v.Number("init_std", InitStd, NumberRange.AtLeast(0), "Standard deviation of the first z."),
        Restarts = v.Int("restarts", Restarts, 1, "Independent starts; the best by dev score counts."),
        Population = v.Int("population", Population, 2, "Candidates of a generation; only cma_es reads it."),
        Optimizer = v.Section("optimizer", Optimizer, (o, w) => o.Visit(w), "The optimizer; only gradient reads it."),
        Training = v.Section("training", Training, (t, w) => t.Visit(w), "Steps and batches; seeds are the experiment's."),
        Loss = v.Section("loss", Loss, (l, w) => l.Visit(w), "What is minimised."),
    };

    /// <summary>The section with what its search does not read at the defaults: so that it makes no result stale.</summary>
    internal IstSection Effective() => this with { Population = Search == IstSearch.CmaEs ? Population : new IstSection().Population, Optimizer = Search == IstSearch.Gradient ? Optimizer : new IstSection().Optimizer };

    internal void Validate()
    {
        MethodChecks.Training("ist", Optimizer, Training);
        if (Search == IstSearch.CmaEs && InitStd == 0)
            throw new ArgumentException("ist.init_std is 0 with search \"cma_es\", expected a number above 0: it is the spread of the first generation.");
    }
}

/// <summary>What an experiment decides itself must not be said a second time in a method's section.</summary>
internal static class MethodChecks
{
    private static readonly TrainingConfig Fresh = new();

    public static void Training(string section, OptimizerConfig optimizer, TrainingConfig training)
    {
        if (training.Seed != Fresh.Seed || training.Runs != Fresh.Runs)
            throw new ArgumentException($"{section}.training has a seed or runs, expected neither: an experiment's \"seeds\" say which runs there are.");
        if (training.EvalEvery > training.Steps)
            throw new ArgumentException($"{section}.training.eval_every is {training.EvalEvery} of {training.Steps} steps, expected no more than those: the best prompt is chosen by its evaluations.");
        optimizer.Validate(training.Steps);
    }

    /// <summary>Dev evaluations of a full run.</summary>
    public static long Evaluations(this TrainingConfig training) => (training.Steps + training.EvalEvery - 1) / training.EvalEvery;
}
